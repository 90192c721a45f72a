"""The metrics of one engine under vLLM's names (0.32: vllm/v1/metrics/loggers.py,
nixl/stats.py).

What the model counts is read when somebody asks; only times are noted as they come.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from twofold_sim.engine_model import EngineCounts

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_LABELS = ("engine", "model_name")

# vllm/v1/metrics/buckets.py.
_TTFT_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_TOKEN_BUCKETS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
_REQUEST_BUCKETS = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
_TRANSFER_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 5.0)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What an engine says when it is asked."""

    counts: EngineCounts
    capacity_blocks: int
    block_tokens: int
    started_at: float
    """Seconds since 1970."""
    external_queries: int
    """Tokens of prompts whose blocks were to be fetched, and had not been cached here."""
    external_hits: int
    failed_transfers: int
    failed_notifications: int
    expired_leases: int
    late_notifications: int
    adapter_count: int
    """LoRA adapters that are loaded."""
    adapters_in_use: tuple[str, ...]
    """Those with requests."""


class EngineMetrics:
    """Observes times, and writes the page. *read* is asked for the rest of it."""

    def __init__(self, model: str, read: Callable[[], Snapshot]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Counts(model, read))
        self.ttft = self._histogram(
            "vllm:time_to_first_token_seconds", "time to first token", _TTFT_BUCKETS, model
        )
        self.token_gap = self._histogram(
            "vllm:inter_token_latency_seconds", "inter-token latency", _TOKEN_BUCKETS, model
        )
        self.token_mean = self._histogram(
            "vllm:request_time_per_output_token_seconds",
            "time_per_output_token_seconds per request",
            _TOKEN_BUCKETS,
            model,
        )
        self.whole = self._histogram(
            "vllm:e2e_request_latency_seconds", "e2e request latency", _REQUEST_BUCKETS, model
        )
        self.prefill = self._histogram(
            "vllm:request_prefill_time_seconds",
            "time spent in PREFILL phase for request",
            _REQUEST_BUCKETS,
            model,
        )
        self.queue = self._histogram(
            "vllm:request_queue_time_seconds",
            "time spent in WAITING phase for request",
            _REQUEST_BUCKETS,
            model,
        )
        self.decode = self._histogram(
            "vllm:request_decode_time_seconds",
            "time spent in DECODE phase for request",
            _REQUEST_BUCKETS,
            model,
        )
        self.transfer = self._histogram(
            "vllm:nixl_xfer_time_seconds",
            "transfer duration for NIXL KV Cache transfers",
            _TRANSFER_BUCKETS,
            model,
        )
        self._success = Counter(
            "vllm:request_success",
            "Count of successfully processed requests.",
            (*_LABELS, "finished_reason"),
            registry=self._registry,
        )
        self._prompt_tokens = Counter(
            "vllm:prompt_tokens_by_source",
            "Number of prompt tokens by source.",
            (*_LABELS, "source"),
            registry=self._registry,
        )
        self._model = model
        self.prefilled(computed=0, cached=0, fetched=0)
        for reason in ("stop", "length", "abort", "error"):
            self._success.labels("0", model, reason)

    def finished(self, reason: str) -> None:
        """Count a request that ended; *reason* is stop, length, abort or error."""
        self._success.labels("0", self._model, reason).inc()

    def prefilled(self, *, computed: int, cached: int, fetched: int) -> None:
        """Count the tokens of a prompt by where they are from."""
        for source, tokens in (
            ("local_compute", computed),
            ("local_cache_hit", cached),
            ("external_kv_transfer", fetched),
        ):
            self._prompt_tokens.labels("0", self._model, source).inc(tokens)

    def page(self) -> bytes:
        return generate_latest(self._registry)

    def _histogram(self, name: str, what: str, buckets: tuple[float, ...], model: str) -> Histogram:
        histogram = Histogram(
            name, f"Histogram of {what}.", _LABELS, buckets=buckets, registry=self._registry
        )
        return histogram.labels("0", model)


class _Counts(Collector):
    def __init__(self, model: str, read: Callable[[], Snapshot]) -> None:
        self._model = model
        self._read = read

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        now = self._read()
        yield GaugeMetricFamily(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            value=now.started_at,
        )
        for name, text, value in _gauges(now):
            gauge = GaugeMetricFamily(f"vllm:{name}", text, labels=_LABELS)
            gauge.add_metric(("0", self._model), value)
            yield gauge
        for name, text, value in _counters(now):
            counter = CounterMetricFamily(f"vllm:{name}", text, labels=_LABELS)
            counter.add_metric(("0", self._model), value)
            yield counter
        config = {
            "block_size": str(now.block_tokens),
            "cache_dtype": "auto",
            "engine": "0",
            "num_gpu_blocks": str(now.capacity_blocks),
        }
        info = GaugeMetricFamily(
            "vllm:cache_config_info",
            "Information of the LLMEngine CacheConfig",
            labels=tuple(config),
        )
        info.add_metric(tuple(config.values()), 1.0)
        yield info
        yield _adapters(now)


def _adapters(now: Snapshot) -> Metric:
    """Tell which adapters have requests, at which moment: as vLLM does, under both labels alike.

    There is room for all that are loaded, and for one if none is.
    """
    names = ",".join(now.adapters_in_use)
    told = {
        "max_lora": str(max(now.adapter_count, 1)),
        "waiting_lora_adapters": names,
        "running_lora_adapters": names,
    }
    gauge = GaugeMetricFamily(
        "vllm:lora_requests_info", "Running stats on lora requests.", labels=tuple(told)
    )
    gauge.add_metric(tuple(told.values()), time.time())
    return gauge


def _gauges(now: Snapshot) -> Iterator[tuple[str, str, float]]:
    counts = now.counts
    yield "num_requests_running", "Number of requests in execution batches.", counts.running
    yield "num_requests_waiting", "Number of requests waiting to be processed.", counts.waiting
    text = "KV-cache usage. 1 means 100 percent usage."
    yield "kv_cache_usage_perc", text, counts.kv_used_fraction


def _counters(now: Snapshot) -> Iterator[tuple[str, str, float]]:
    counts = now.counts
    yield "num_preemptions", "Cumulative number of preemptions.", counts.preemptions
    yield "prompt_tokens", "Number of prefill tokens processed.", counts.prompt_tokens
    yield "generation_tokens", "Number of generation tokens processed.", counts.generated_tokens
    yield "prefix_cache_queries", "Prefix cache queries, in tokens.", counts.prefix_queries
    yield "prefix_cache_hits", "Prefix cache hits, in tokens.", counts.prefix_hits
    text = "External prefix cache queries by the KV connector, in tokens."
    yield "external_prefix_cache_queries", text, now.external_queries
    text = "External prefix cache hits by the KV connector, in tokens."
    yield "external_prefix_cache_hits", text, now.external_hits
    yield "nixl_num_failed_transfers", "Failed KV transfers.", now.failed_transfers
    yield "nixl_num_failed_notifications", "Failed notifications.", now.failed_notifications
    yield "nixl_num_kv_expired_reqs", "Requests whose KV expired.", now.expired_leases
    text = "Notifications that came after their request had expired."
    yield "nixl_num_notifications_after_expiry", text, now.late_notifications
