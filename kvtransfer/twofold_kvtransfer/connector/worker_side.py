"""One rank's side of the connector: carries out orders, and reports what came of them."""

import logging
import os
import time
from collections.abc import Mapping

import torch
from vllm import __version__ as vllm_version
from vllm.config import VllmConfig
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorTransferResults
from vllm.distributed.parallel_state import get_tensor_model_parallel_rank
from vllm.v1.kv_cache_interface import KVCacheConfig

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.compatibility import attention_of, compatibility
from twofold_kvtransfer.connector import shelves
from twofold_kvtransfer.connector.cache_layout import check_layout, map_blocks
from twofold_kvtransfer.connector.codec_tally import CodecTally
from twofold_kvtransfer.connector.idling import IdleWaits
from twofold_kvtransfer.connector.orders import Orders
from twofold_kvtransfer.connector.statistics import TransferStats
from twofold_kvtransfer.leases import LeaseTable
from twofold_kvtransfer.loading import Load
from twofold_kvtransfer.node import Node, Rank
from twofold_kvtransfer.prefixes import Pulled
from twofold_kvtransfer.receiving import Failure, Receiver, Reception
from twofold_kvtransfer.remote_view import RemoteView
from twofold_kvtransfer.settings import ConnectorSettings, secret_in
from twofold_kvtransfer.transports import Transport
from twofold_kvtransfer.viewing import LocalView, View

_log = logging.getLogger(__name__)


class WorkerSide:
    """``_fetching`` holds the local blocks of each request that waits for them; a request leaves it
    when it is reported, fetched or not, and until then vLLM keeps its blocks."""

    def __init__(
        self, config: VllmConfig, cache: KVCacheConfig, settings: ConnectorSettings
    ) -> None:
        self._config = config
        self._cache = cache
        self._settings = settings
        self._node: Node | None = None
        self._fetching: dict[str, tuple[int, ...]] = {}
        self._sourceless: list[Reception] = []
        self._failed_blocks: set[int] = set()
        self._stats = TransferStats()
        self._rank = get_tensor_model_parallel_rank()
        self._told_load = Load()
        self._tally: CodecTally | None = None
        self._idle_waits = IdleWaits()
        self._shelf_address: str | None = None

    def register(self, caches: Mapping[str, torch.Tensor]) -> None:
        """Make the blocks of *caches* known to peers.

        Raises:
            UnsupportedCacheError: they are not laid out as this connector needs them.
            NodeError: the side channel cannot listen.
        """
        check_layout(self._config.cache_config.get_resolved_kv_cache_layout().name)
        blocks = map_blocks(caches, self._cache.num_blocks)
        parallel = self._config.parallel_config
        rank = Rank(
            engine_id=self._config.kv_transfer_config.engine_id,
            compatibility=compatibility(
                self._config, vllm_version, attention=attention_of(self._config, caches)
            ),
            tensor_parallel=parallel.tensor_parallel_size,
            rank=self._rank,
        )
        self._node = Node(
            rank,
            blocks,
            self._transport(blocks),
            self._settings,
            self._view(rank.engine_id),
            secret=secret_in(os.environ),
        )
        self._node.start()
        _log.info("%d blocks of %d bytes to lend", blocks.block_count, blocks.bytes_per_block)

    def note_shelf(self, address: str) -> None:
        """Note where the scheduler's process shows the prefix cache."""
        self._shelf_address = address

    def carry_out(self, orders: Orders) -> None:
        """Start what *orders* say."""
        if orders.is_empty:
            return
        assert self._node is not None
        for fetch in orders.fetches:
            self._fetching[fetch.request_id] = fetch.local
            if fetch.source is None:
                self._sourceless.append(Reception(fetch.request_id, Failure.SOURCE))

        def work(leases: LeaseTable, receiver: Receiver) -> None:
            keep(orders, leases)
            receive(orders, receiver)

        self._node.order(work)
        for pull in orders.pulls:
            self._node.pull(pull)
        for request_id in orders.dropped_pulls:
            self._node.drop_pull(request_id)

    def take_results(self, *, idle: bool) -> KVConnectorTransferResults:
        """Return the requests whose fetches have ended, those of them that have failed, and those
        whose blocks are free.

        An *idle* engine, which has run no model in this step, waits a little for them: it would
        come again at once, and take a core from what it waits for.
        """
        assert self._node is not None
        if idle and not self._sourceless:
            self._wait(self._node)
        elif not idle:
            self._idle_waits.begin_anew()
        ended = self._node.take_ended()
        received = self._sourceless + self._node.take_received()
        self._sourceless = []
        failed: set[str] = set()
        for lease in ended:
            self._stats.record_lease(lease)
        for reception in received:
            self._stats.record(reception, is_first_rank=self._rank == 0)
            local = self._fetching.pop(reception.request_id)
            if reception.failure is not None:
                failed.add(reception.request_id)
                self._failed_blocks.update(local)
        return KVConnectorTransferResults(
            finished_sending={lease.request_id for lease in ended},
            finished_recving={reception.request_id for reception in received},
            failed_recving=failed,
        )

    def _wait(self, node: Node) -> None:
        seconds = self._idle_waits.next_seconds()
        if node.wait_for_news(seconds):
            self._idle_waits.begin_anew()
        else:
            self._idle_waits.note_vain(seconds)

    def take_pulled(self) -> list[tuple[int, Pulled]]:
        """Return what came of pulls since the last call, each with the number of this rank."""
        assert self._node is not None
        return [(self._rank, pulled) for pulled in self._node.take_pulled()]

    def take_failed_blocks(self) -> set[int]:
        """Return the blocks that were to be fetched and hold nothing of use."""
        failed, self._failed_blocks = self._failed_blocks, set()
        return failed

    def take_stats(self) -> TransferStats | None:
        if self._tally is not None:
            self._stats.record_codecs(self._tally.take())
        if self._node is not None:
            self._stats.record_prefix_reads(self._node.take_prefix_reads())
            if (load := self._node.load) != self._told_load:
                self._stats.record_load(self._rank, load)
                self._told_load = load
        return self._stats.take()

    def close(self) -> None:
        if self._node is not None:
            self._node.close()

    def _view(self, engine_id: str) -> View:
        if self._config.parallel_config.world_size == 1:
            return LocalView(lambda: shelves.find(engine_id))
        return RemoteView(lambda: self._shelf_address)

    def _transport(self, blocks: BlockMap) -> Transport:
        """Make the transport of the settings; each imports what it needs only when it is chosen."""
        if self._settings.transport == "tcp":
            from twofold_kvtransfer.connector.compressing import compression_of
            from twofold_kvtransfer.transports.tcp import TcpSettings, TcpTransport

            spec = self._cache.kv_cache_groups[0].kv_cache_spec
            transport = TcpTransport(
                blocks,
                TcpSettings(host=self._settings.host),
                compression=compression_of(blocks, spec, self._settings),
            )
            self._tally = CodecTally(lambda: transport.snapshot().codec_counts)
            return transport
        if self._settings.transport == "nccl":
            from twofold_kvtransfer.communicators.nccl import NcclLibrary
            from twofold_kvtransfer.transports.two_sided import TwoSidedSettings, TwoSidedTransport

            return TwoSidedTransport(
                blocks, NcclLibrary(), TwoSidedSettings(host=self._settings.host)
            )
        from twofold_kvtransfer.transports.nixl import NixlSettings, NixlTransport

        least = self._settings.least_bytes_per_second
        return NixlTransport(blocks, NixlSettings(least_bytes_per_second=least))


def keep(orders: Orders, leases: LeaseTable) -> None:
    """Change *leases* as *orders* say."""
    for request_id in orders.promised:
        leases.promise(request_id)
    for request_id in orders.withdrawn:
        leases.withdraw(request_id)
    for request_id, block_count in orders.granted.items():
        leases.grant(request_id, time.monotonic(), block_count)


def receive(orders: Orders, receiver: Receiver) -> None:
    """Have *receiver* keep, fetch and give back what *orders* name."""
    for source in orders.awaited:
        receiver.await_turn(source)
    for fetch in orders.fetches:
        if fetch.source is not None:
            receiver.fetch(fetch.request_id, fetch.source, fetch.local)
    for source in orders.abandoned:
        receiver.abandon(source)
