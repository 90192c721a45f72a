"""The class that vLLM loads; it only passes on what it is told to the side that it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
    KVConnectorTransferResults,
    KVConnectorWorkerMetadata,
)
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (
    KVConnectorStats,
    PromMetric,
    PromMetricT,
)
from vllm.forward_context import ForwardContext
from vllm.platforms import current_platform
from vllm.v1.core.block_pool import BlockPool
from vllm.v1.core.kv_cache_manager import KVCacheBlocks
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.kv_cache_interface import KVCacheConfig
from vllm.v1.metrics.cache_hit_source import CacheHitSource
from vllm.v1.outputs import KVConnectorOutput
from vllm.v1.request import Request, RequestStatus

from twofold_kvtransfer.connector import shelves
from twofold_kvtransfer.connector.cache_layout import LAYOUT, check_cache
from twofold_kvtransfer.connector.orders import Orders
from twofold_kvtransfer.connector.scheduler_side import SchedulerSide
from twofold_kvtransfer.connector.statistics import TransferMetrics, TransferStats
from twofold_kvtransfer.connector.worker_side import WorkerSide
from twofold_kvtransfer.parallelism import shows_prefixes
from twofold_kvtransfer.prefixes import Pulled
from twofold_kvtransfer.settings import ConnectorSettings
from twofold_kvtransfer.shelf import Shelf
from twofold_kvtransfer.showing import ShelfServer

_COMPLETE = (RequestStatus.FINISHED_LENGTH_CAPPED, RequestStatus.FINISHED_STOPPED)


@dataclass(frozen=True, slots=True)
class Metadata(KVConnectorMetadata):  # type: ignore[misc]  # vLLM is untyped here
    """Orders, as vLLM carries them."""

    orders: Orders
    step: int = 0
    """Its number, for the shelf."""
    shelf_address: str | None = None
    """Where the prefix cache is shown to ranks in other processes."""
    is_idle: bool = False
    """No model runs in this step. A rank's forward context does not tell: vLLM's second model
    runner has none any more when it starts loads, in steps that have run the model too."""


@dataclass(frozen=True, slots=True)
class WorkerMetadata(KVConnectorWorkerMetadata):  # type: ignore[misc]  # vLLM is untyped here
    """What the ranks of an engine tell after each step; it comes when the model has run in it."""

    step: int
    pulled: tuple[tuple[int, Pulled], ...]
    """Each with the rank that tells it."""

    def aggregate(self, other: KVConnectorWorkerMetadata) -> KVConnectorWorkerMetadata:
        assert isinstance(other, WorkerMetadata)
        assert other.step == self.step, (other.step, self.step)
        return WorkerMetadata(self.step, self.pulled + other.pulled)


class TwofoldConnector(KVConnectorBase_V1):  # type: ignore[misc]  # vLLM is untyped here
    """Pulls the blocks of a prompt from the engine that has computed it.

    Raises:
        UnsupportedCacheError: the model's cache is not dense attention of one kind.
        InvalidTransferSettingsError: ``kv_connector_extra_config`` is wrong.
    """

    _cache_hit_source = CacheHitSource.P2P

    def __init__(
        self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: KVCacheConfig
    ) -> None:
        super().__init__(vllm_config, role, kv_cache_config)
        check_cache(kv_cache_config, uses_mla=vllm_config.model_config.use_mla)
        transfer = vllm_config.kv_transfer_config
        settings = ConnectorSettings.from_config(transfer.kv_connector_extra_config)
        self._engine_id: str = transfer.engine_id
        self._scheduler: SchedulerSide | None = None
        self._shelf: Shelf | None = None
        self._shelf_server: ShelfServer | None = None
        self._is_one_rank: bool = vllm_config.parallel_config.world_size == 1
        self._shares_prefixes = (
            shows_prefixes(vllm_config.parallel_config)
            and settings.keeps_blocks_exact
            and vllm_config.cache_config.enable_prefix_caching
        )
        """Needs a prefix cache that the ranks can see, and blocks that may be passed on. vLLM's
        pool takes no names off blocks when it keeps no prefix cache."""
        self._pull_stats = TransferStats()
        """Of the scheduler's side: a pull is counted once, and not by each rank."""
        self._worker: WorkerSide | None = None
        if role is KVConnectorRole.SCHEDULER:
            parallel = vllm_config.parallel_config
            spec = kv_cache_config.kv_cache_groups[0].kv_cache_spec
            self._scheduler = SchedulerSide(
                transfer.engine_id,
                settings,
                parallel.tensor_parallel_size,
                block_tokens=spec.block_size * parallel.decode_context_parallel_size,
            )
        else:
            self._worker = WorkerSide(vllm_config, kv_cache_config, settings)

    @classmethod
    def get_required_kvcache_layout(cls, vllm_config: VllmConfig) -> str | None:
        return LAYOUT

    # The scheduler's side.

    def bind_gpu_block_pool(self, gpu_block_pool: BlockPool) -> None:
        self._scheduling.bind_pool(gpu_block_pool, may_pull=self._shares_prefixes)
        if not self._shares_prefixes:
            return
        self._shelf = Shelf(gpu_block_pool)
        if self._is_one_rank:
            shelves.put_up(self._engine_id, self._shelf)
        else:
            self._shelf_server = ShelfServer(self._shelf)
            self._shelf_server.start()

    def on_new_request(self, request: Request) -> None:
        self._scheduling.note_arrival(request)

    def get_num_new_matched_tokens(
        self, request: Request, num_computed_tokens: int
    ) -> tuple[int | None, bool]:
        count = self._scheduling.count_remote_tokens(request, num_computed_tokens)
        return count, bool(count)

    def update_state_after_alloc(
        self, request: Request, blocks: KVCacheBlocks, num_external_tokens: int
    ) -> None:
        self._scheduling.note_blocks(request, blocks, num_external_tokens)

    def build_connector_meta(self, scheduler_output: SchedulerOutput) -> KVConnectorMetadata:
        step = 0 if self._shelf is None else self._shelf.steps.note_scheduled()
        address = None if self._shelf_server is None else self._shelf_server.address
        is_idle = scheduler_output.total_num_scheduled_tokens == 0
        return Metadata(self._scheduling.take_orders(), step, address, is_idle)

    def update_connector_output(self, connector_output: KVConnectorOutput) -> None:
        told = connector_output.kv_connector_worker_meta
        if self._shelf is None or told is None:
            return
        self._shelf.steps.note_done(told.step)
        for pulled in self._scheduling.note_pulled(told.pulled):
            self._pull_stats.record_pull(pulled)

    def has_pending_push_work(self) -> bool:
        # An engine whose last request was aborted steps on until it has the blocks of its pull.
        return self._scheduling.is_pulling

    def request_finished(
        self, request: Request, block_ids: list[int]
    ) -> tuple[bool, dict[str, Any] | None]:
        complete = request.status in _COMPLETE
        return self._scheduling.note_end(request, block_ids, complete=complete)

    # The worker's side.

    def register_kv_caches(self, kv_caches: Mapping[str, torch.Tensor]) -> None:
        self._moving.register(kv_caches)

    def bind_connector_metadata(self, connector_metadata: KVConnectorMetadata) -> None:
        super().bind_connector_metadata(connector_metadata)
        # vLLM starts loads after it has launched the model, which on a CPU means: has run it.
        if current_platform.is_cpu():
            self._carry_out(connector_metadata)

    def start_load_kv(self, forward_context: ForwardContext, **kwargs: Any) -> None:
        if not current_platform.is_cpu():
            self._carry_out(self._get_connector_metadata())

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Nothing to wait for: a request runs when all of its blocks are there."""

    def save_kv_layer(
        self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: object, **kwargs: Any
    ) -> None:
        """Nothing to save: peers read the cache itself."""

    def wait_for_save(self) -> None:
        """Nothing to wait for."""

    def get_transfer_results(self, finished_req_ids: set[str]) -> KVConnectorTransferResults:
        metadata = self._get_connector_metadata()
        assert isinstance(metadata, Metadata)
        return self._moving.take_results(idle=metadata.is_idle)

    def build_connector_worker_meta(self) -> KVConnectorWorkerMetadata | None:
        if not self._shares_prefixes:
            return None
        return WorkerMetadata(
            self._get_connector_metadata().step, tuple(self._moving.take_pulled())
        )

    def get_block_ids_with_load_errors(self) -> set[int]:
        return self._moving.take_failed_blocks()

    def get_kv_connector_stats(self) -> KVConnectorStats | None:
        return self._pull_stats.take() if self._worker is None else self._worker.take_stats()

    @classmethod
    def build_kv_connector_stats(cls, data: dict[str, Any] | None = None) -> KVConnectorStats:
        return TransferStats(data)

    @classmethod
    def build_prom_metrics(
        cls,
        vllm_config: VllmConfig,
        metric_types: dict[type[PromMetric], type[PromMetricT]],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> TransferMetrics:
        return TransferMetrics(vllm_config, metric_types, labelnames, per_engine_labelvalues)

    def shutdown(self) -> None:
        if self._worker is not None:
            self._worker.close()
        if self._shelf_server is not None:
            self._shelf_server.close()

    def _carry_out(self, metadata: KVConnectorMetadata) -> None:
        assert isinstance(metadata, Metadata)
        if metadata.shelf_address is not None:
            self._moving.note_shelf(metadata.shelf_address)
        self._moving.carry_out(metadata.orders)

    @property
    def _scheduling(self) -> SchedulerSide:
        assert self._scheduler is not None, "called on the worker's side"
        return self._scheduler

    @property
    def _moving(self) -> WorkerSide:
        assert self._worker is not None, "called on the scheduler's side"
        return self._worker
