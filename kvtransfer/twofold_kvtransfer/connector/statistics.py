"""What our connector counts, in vLLM's own metrics."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from vllm.config import VllmConfig
from vllm.distributed.kv_transfer.kv_connector.v1.metrics import (
    KVConnectorPromMetrics,
    KVConnectorStats,
    PromMetric,
    PromMetricT,
)
from vllm.v1.metrics.utils import create_metric_per_engine

from twofold_kvtransfer import metric_names
from twofold_kvtransfer.codecs import QUALITY
from twofold_kvtransfer.connector.codec_tally import CodecUse
from twofold_kvtransfer.lease import Cause
from twofold_kvtransfer.leases import Ended
from twofold_kvtransfer.loading import Load
from twofold_kvtransfer.metric_names import MetricName
from twofold_kvtransfer.prefixes import Outcome, PrefixRead, Pulled
from twofold_kvtransfer.receiving import Failure, Reception

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BYTES = tuple(2.0**power for power in range(12, 37, 2))
"""4 KiB to 64 GiB."""
_BYTES_PER_SECOND = tuple(
    gigabytes * 1e9
    for gigabytes in (0.01, 0.05, 0.125, 0.25, 0.5, 1.25, 2.5, 5.0, 12.5, 25.0, 50.0, 100.0, 400.0)
)
"""Among them what links of 1, 10, 100, 200 and 400 Gbit/s carry, and NVLink."""
_LEASES = ("promised", "held", "claimed", "pinned")
_READS = ("reading", "waiting")
_MAX_TOLD = 10_000
"""Requests whose other ranks may not have told yet: many more than end within a step or two."""


class TransferStats(KVConnectorStats):  # type: ignore[misc]  # vLLM is untyped here
    """One interval's receptions and leases; ``data`` is what vLLM sends between its processes."""

    def __init__(self, data: dict[str, list[Any]] | None = None) -> None:
        super().__init__(data=data or _nothing())

    def reset(self) -> None:
        self.data = _nothing()

    def record(self, reception: Reception, *, is_first_rank: bool = True) -> None:
        """Record what came of a read. All ranks read of a request: the first one's time counts."""
        if reception.failure is None:
            read = (reception.seconds, reception.size_bytes, is_first_rank)
            self.data["reads"].append(read)
        else:
            self.data["failures"].append((reception.request_id, reception.failure.value))

    def record_lease(self, ended: Ended) -> None:
        self.data["leases"].append((ended.request_id, ended.cause.value))

    def record_load(self, rank: int, load: Load) -> None:
        """Record how much a rank has to do; only the latest is told."""
        self.data["loads"] = [(rank, dataclasses.asdict(load))]

    def record_pull(self, pulled: Pulled) -> None:
        self.data["pulls"].append((pulled.outcome.value, pulled.block_count))

    def record_prefix_reads(self, reads: Sequence[PrefixRead]) -> None:
        """Record what a rank has read of prefixes, each read by itself."""
        self.data["prefix_reads"] += [(read.size_bytes, read.seconds) for read in reads]

    def record_codecs(self, used: Sequence[CodecUse]) -> None:
        self.data["codecs"] += used

    def take(self) -> "TransferStats | None":
        """Return what was recorded and begin anew; None: nothing was."""
        if self.is_empty():
            return None
        taken = TransferStats(self.data)
        self.reset()
        return taken

    def is_empty(self) -> bool:
        return not any(self.data.values())

    def aggregate(self, other: KVConnectorStats) -> KVConnectorStats:
        for name, values in other.data.items():
            self.data[name] += values
        return self

    def reduce(self) -> dict[str, int | float]:
        """Summarise for vLLM's log line."""
        reads = self.data["reads"]
        seconds = sum(seconds for seconds, _, is_first in reads if is_first)
        mebibytes = sum(size_bytes for _, size_bytes, _ in reads) / 2**20
        return {
            "KV transfers": sum(is_first for _, _, is_first in reads),
            "MiB": round(mebibytes, 1),
            "MiB/s": round(mebibytes / seconds, 1) if seconds else 0.0,
            "Failed": len({request_id for request_id, _ in self.data["failures"]}),
        }


class TransferMetrics(KVConnectorPromMetrics):  # type: ignore[misc]  # vLLM is untyped here
    """The same as Prometheus shows it."""

    def __init__(
        self,
        vllm_config: VllmConfig,
        metric_types: dict[type[PromMetric], type[PromMetricT]],
        labelnames: list[str],
        per_engine_labelvalues: dict[int, list[object]],
    ) -> None:
        super().__init__(vllm_config, metric_types, labelnames, per_engine_labelvalues)
        self._seconds = create_metric_per_engine(
            self._histogram(metric_names.SECONDS, _SECONDS), per_engine_labelvalues
        )
        self._bytes = create_metric_per_engine(
            self._histogram(metric_names.BYTES, _BYTES), per_engine_labelvalues
        )
        self._bandwidth = create_metric_per_engine(
            self._histogram(metric_names.BANDWIDTH, _BYTES_PER_SECOND), per_engine_labelvalues
        )
        self._failed, self._ended = _Told(), _Told()
        self._failures = self._counter(metric_names.FAILURES)
        self._leases = self._counter(metric_names.LEASES)
        self._leases_now = self._gauge(metric_names.LEASES_NOW)
        self._reads_now = self._gauge(metric_names.READS_NOW)
        self._loads: dict[int, dict[int, dict[str, int]]] = {}
        """Of each engine's ranks, the latest."""
        self._by_codec = self._counter(metric_names.TRANSFERS_BY_CODEC)
        self._block_bytes = self._counter(metric_names.BLOCK_BYTES)
        self._payload_bytes = self._counter(metric_names.PAYLOAD_BYTES)
        self._pulls = self._counter(metric_names.PREFIX_PULLS)
        self._pulled_blocks = create_metric_per_engine(
            self._counter(metric_names.PREFIX_BLOCKS), per_engine_labelvalues
        )
        self._prefix_bytes = create_metric_per_engine(
            self._counter(metric_names.PREFIX_BYTES), per_engine_labelvalues
        )
        self._prefix_seconds = create_metric_per_engine(
            self._counter(metric_names.PREFIX_SECONDS), per_engine_labelvalues
        )
        for engine in per_engine_labelvalues.values():  # so that a rate is seen from the first one
            for failure in Failure:
                self._failures.labels(*engine, failure.value)
            for cause in Cause:
                self._leases.labels(*engine, cause.value)
            for outcome in Outcome:
                self._pulls.labels(*engine, outcome.value)
            for codec in QUALITY:
                self._by_codec.labels(*engine, codec)
                self._block_bytes.labels(*engine, codec)
                self._payload_bytes.labels(*engine, codec)

    def observe(self, transfer_stats_data: dict[str, Any], engine_idx: int = 0) -> None:
        engine = self.per_engine_labelvalues[engine_idx]
        for seconds, size_bytes, is_first_rank in transfer_stats_data["reads"]:
            if is_first_rank:
                self._seconds[engine_idx].observe(seconds)
            self._bytes[engine_idx].observe(size_bytes)
            self._observe_bandwidth(engine_idx, size_bytes, seconds)
        for request_id, failure in transfer_stats_data["failures"]:
            if self._failed.is_new(engine_idx, request_id):
                self._failures.labels(*engine, failure).inc()
        for request_id, cause in transfer_stats_data["leases"]:
            if self._ended.is_new(engine_idx, request_id):
                self._leases.labels(*engine, cause).inc()
        for rank, load in transfer_stats_data["loads"]:
            self._loads.setdefault(engine_idx, {})[rank] = load
        if loads := self._loads.get(engine_idx):
            for gauge, states in ((self._leases_now, _LEASES), (self._reads_now, _READS)):
                for state in states:
                    most = max(load[state] for load in loads.values())
                    gauge.labels(*engine, state).set(most)
        for outcome, block_count in transfer_stats_data["pulls"]:
            self._pulls.labels(*engine, outcome).inc()
            self._pulled_blocks[engine_idx].inc(block_count)
        for size_bytes, seconds in transfer_stats_data["prefix_reads"]:
            self._prefix_bytes[engine_idx].inc(size_bytes)
            self._prefix_seconds[engine_idx].inc(seconds)
            self._observe_bandwidth(engine_idx, size_bytes, seconds)
        for codec, count, block_bytes, payload_bytes in transfer_stats_data["codecs"]:
            self._by_codec.labels(*engine, codec).inc(count)
            self._block_bytes.labels(*engine, codec).inc(block_bytes)
            self._payload_bytes.labels(*engine, codec).inc(payload_bytes)

    def _observe_bandwidth(self, engine_idx: int, size_bytes: int, seconds: float) -> None:
        if size_bytes and seconds > 0:
            self._bandwidth[engine_idx].observe(size_bytes / seconds)

    def _histogram(self, metric: MetricName, buckets: Sequence[float]) -> Any:
        return self._histogram_cls(
            name=metric.name,
            documentation=metric.meaning,
            buckets=buckets,
            labelnames=self._labelnames,
        )

    def _gauge(self, metric: MetricName) -> Any:
        return self._gauge_cls(
            name=metric.name,
            documentation=metric.meaning,
            multiprocess_mode="mostrecent",
            labelnames=[*self._labelnames, metric.label],
        )

    def _counter(self, metric: MetricName) -> Any:
        return self._counter_cls(
            name=metric.name,
            documentation=metric.meaning,
            labelnames=[*self._labelnames, *filter(None, [metric.label])],
        )


class _Told:
    """The requests that a rank has told of already: the others tell the same, a little later."""

    def __init__(self) -> None:
        self._latest: dict[tuple[int, str], None] = {}

    def is_new(self, engine_idx: int, request_id: str) -> bool:
        if (engine_idx, request_id) in self._latest:
            return False
        self._latest[engine_idx, request_id] = None
        if len(self._latest) > _MAX_TOLD:
            del self._latest[next(iter(self._latest))]
        return True


def _nothing() -> dict[str, list[Any]]:
    return {
        "loads": [],
        "reads": [],
        "failures": [],
        "leases": [],
        "codecs": [],
        "pulls": [],
        "prefix_reads": [],
    }
