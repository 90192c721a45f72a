"""What Prometheus is told. No label takes a value from a client."""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from twofold_cluster.errors import Fault
from twofold_cluster.identity import Role
from twofold_cluster.worker import Worker
from twofold_router.placement import Dispatch, PlacementSnapshot, PromptUsage
from twofold_router.tallies import SHORT_SECONDS, TOKEN_SECONDS, Labels, Tallies

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

PREFIX = "twofold_router_"


class Leg(enum.StrEnum):
    """The requests that the router makes."""

    PREFILL = "1"
    DECODE = "2"
    RELEASE = "release"
    PASSED_ON = "passed-on"
    FOLLOWING = "following"
    TRIAL = "trial"


class Promise(enum.StrEnum):
    """What became of the promise of a time."""

    MET = "met"
    LATE = "late"
    FAILED = "failed"


# By name: what it counts, and its labels.
_COUNTERS: dict[str, tuple[str, Labels]] = {
    "requests": ("Requests answered, or left by their clients.", ("mode", "reason", "status")),
    "slo": ("Streams by whether their first byte was on time.", ("class", "outcome")),
    "tpot_slo": ("Whole streams by whether their tokens came in time.", ("class", "outcome")),
    "worker_losses": ("Workers that went without draining.", ("role",)),
    "refusals": ("Requests that the router refused itself, by code.", ("code",)),
    "upstream_errors": ("Requests to workers that failed.", ("leg", "kind")),
    "retries": ("Searches for another worker.", ("leg",)),
    "releases": ("Releases of unread blocks.", ("outcome",)),
    "continuations": ("Streams that broke, and were to go on elsewhere.", ("outcome",)),
    "prompt_tokens": ("Tokens of prompts, as the engines told.", ()),
    "cached_tokens_predicted": ("Tokens of these prompts that were expected in a cache.", ()),
    "cached_tokens_reported": ("Tokens of these prompts that the engines found in a cache.", ()),
    "prefix_sources": ("Leg 1s that named another worker to fetch a prefix from.", ()),
    "followed": ("Leg 1s whose decode workers were to take blocks while they ran.", ()),
    "pulled_tokens": ("Tokens of prompts that prefill workers fetched from such a source.", ()),
    "kv_events": ("Batches of KV events, and what happened to them.", ("what",)),
    "key_reloads": ("Times that the file of keys had changed, by what came of it.", ("outcome",)),
    "limits_alone": ("Requests whose limits were counted without Redis.", ()),
    "output_tokens": ("Tokens generated, as far as they are known.", ()),
}
_DISTRIBUTIONS: dict[str, tuple[str, Labels]] = {
    "queue_seconds": ("From asking for a place to having one.", ()),
    "ttft_seconds": ("From arrival to a stream's first byte.", ()),
    "ttft_predicted_seconds": ("The same as predicted when the request was placed.", ()),
    "tpot_seconds": ("Of a stream's token after the first, as a mean over the stream.", ()),
    "leg_seconds": ("Of one request to a worker, up to its answer's end.", ("leg",)),
    "placement_seconds": ("Of one decision, its computing time alone.", ()),
}


class Metrics:
    """Counts what happens in one process."""

    def __init__(self) -> None:
        self.tallies = Tallies()
        self._counters = {name: self.tallies.counter(name) for name in _COUNTERS}
        # What alerts wait for is 0 before it happens: Prometheus sees no increase in a first 1.
        self._counters["worker_losses"].update({(str(role),): 0 for role in Role})
        self._counters["refusals"][Fault.NO_WORKER.code,] = 0
        distribution = self.tallies.distribution
        self.queue = distribution("queue_seconds").observe
        self.ttft = distribution("ttft_seconds").observe
        self.ttft_predicted = distribution("ttft_predicted_seconds").observe
        self.tpot = distribution("tpot_seconds", TOKEN_SECONDS).observe
        self.placement = distribution("placement_seconds", SHORT_SECONDS).observe
        self._legs = {leg: distribution("leg_seconds", labels=(str(leg),)) for leg in Leg}

    def request(self, dispatch: Dispatch | None, status: str) -> None:
        """Count one request; *status* is ``2xx`` and so on, or ``left``."""
        mode = str(dispatch.mode) if dispatch else "none"
        reason = str(dispatch.reason) if dispatch and dispatch.reason else ""
        self._count("requests", (mode, reason, status))

    def promise(self, class_name: str, outcome: Promise) -> None:
        """Count a stream of class *class_name*, once its first byte or its failure is there."""
        self._count("slo", (class_name, str(outcome)))

    def pace(self, class_name: str, outcome: Promise) -> None:
        """Count a whole stream of class *class_name*, which has a promise of time per token."""
        self._count("tpot_slo", (class_name, str(outcome)))

    def worker_loss(self, role: Role) -> None:
        self._count("worker_losses", (str(role),))

    def refusal(self, code: str) -> None:
        self._count("refusals", (code,))

    def upstream_error(self, leg: Leg, kind: str) -> None:
        self._count("upstream_errors", (str(leg), kind))

    def retry(self, leg: Leg) -> None:
        self._count("retries", (str(leg),))

    def release(self, outcome: str) -> None:
        self._count("releases", (outcome,))

    def continuation(self, outcome: str) -> None:
        self._count("continuations", (outcome,))

    def kv_events(self, what: str) -> None:
        self._count("kv_events", (what,))

    def key_reload(self, outcome: str) -> None:
        self._count("key_reloads", (outcome,))

    def limit_alone(self) -> None:
        self._count("limits_alone", ())

    def leg(self, leg: Leg, seconds: float) -> None:
        """Count one request to a worker, however it ended."""
        self._legs[leg].observe(seconds)

    def prefix_source(self) -> None:
        self._count("prefix_sources", ())

    def followed(self) -> None:
        self._count("followed", ())

    def prompt(self, dispatch: Dispatch, usage: PromptUsage) -> None:
        """Count what an engine tells of a prompt, beside what was predicted."""
        self._count("prompt_tokens", (), usage.prompt_tokens)
        if usage.cached_tokens is not None:
            self._count("cached_tokens_predicted", (), dispatch.cached_tokens)
            own_tokens = max(usage.cached_tokens - usage.pulled_tokens, 0)
            self._count("cached_tokens_reported", (), own_tokens)
        if usage.pulled_tokens:
            self._count("pulled_tokens", (), usage.pulled_tokens)

    def output(self, tokens: int) -> None:
        self._count("output_tokens", (), tokens)

    def _count(self, name: str, labels: Labels, amount: float = 1) -> None:
        counts = self._counters[name]
        counts[labels] = counts.get(labels, 0) + amount


@dataclass(frozen=True, slots=True)
class RouterSnapshot:
    """The state of all owners at one moment."""

    tallies: Tallies
    placement: PlacementSnapshot
    workers: tuple[Worker, ...]
    membership_is_stale: bool
    connections: int


def metrics_text(now: RouterSnapshot) -> bytes:
    """Write all metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(now))
    return generate_latest(registry)


def families(now: RouterSnapshot) -> Iterator[Metric]:
    """Return all metrics, those without samples among them."""
    return _Snapshot(now).collect()


class _Snapshot(Collector):
    """Made anew at every reading, so that a worker that left leaves no label behind."""

    def __init__(self, now: RouterSnapshot) -> None:
        self._now = now

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        yield from _counters(self._now.tallies)
        yield from _distributions(self._now.tallies)
        yield from _state(self._now)
        yield from _workers(self._now)


def _counters(tallies: Tallies) -> Iterator[Metric]:
    for name, (text, labels) in _COUNTERS.items():
        family = CounterMetricFamily(PREFIX + name, text, labels=labels)
        counts = tallies.counts.get(name, {})
        for values, count in counts.items() or ([] if labels else [((), 0.0)]):
            family.add_metric(values, count)
        yield family


def _distributions(tallies: Tallies) -> Iterator[Metric]:
    for name, (text, labels) in _DISTRIBUTIONS.items():
        family = HistogramMetricFamily(PREFIX + name, text, labels=labels)
        for values, distribution in tallies.distributions.get(name, {}).items():
            buckets, count = [], 0
            bounds = (*map(str, distribution.bounds), "+Inf")
            for bound, own in zip(bounds, distribution.counts, strict=True):
                count += own
                buckets.append((bound, count))
            family.add_metric(values, buckets, sum_value=distribution.sum)
        yield family


def _state(now: RouterSnapshot) -> Iterator[Metric]:
    placement = now.placement
    yield _gauge("in_flight", "Requests placed on workers.", placement.in_flight)
    yield _gauge("queued", "Requests that wait for a worker.", placement.queued)
    yield _gauge("connections", "Connections of clients.", now.connections)
    stale = int(now.membership_is_stale)
    yield _gauge("membership_stale", "1 while Redis cannot be read.", stale)
    moved = CounterMetricFamily(PREFIX + "moves", "Waiting requests moved to another worker.")
    moved.add_metric((), placement.moved)
    yield moved
    prefilling = {worker.worker_id for worker in now.workers if worker.role.prefills}
    pending = [each.pending_tokens for each in placement.workers if each.worker_id in prefilling]
    mean = fmean(pending) if pending else 0.0
    skew = max(pending) / mean if mean else 1.0
    yield _gauge("prefill_skew", "Most pending tokens of a worker, over the mean.", skew)


def _workers(now: RouterSnapshot) -> Iterator[Metric]:
    workers = _family("workers", "Workers known.", "role")
    for role in Role:
        workers.add_metric([role], sum(worker.role is role for worker in now.workers))
    yield workers
    requests = _family("worker_in_flight", "Requests of ours at a worker.", "worker", "phase")
    pending = _family("worker_pending_tokens", "Uncached tokens ahead of a newcomer.", "worker")
    blocks = _family("worker_mirrored_blocks", "Blocks that it should hold.", "worker", "state")
    for each in now.placement.workers:
        requests.add_metric([each.worker_id, "queue"], each.queued)
        requests.add_metric([each.worker_id, "prefill"], each.unprefilled)
        requests.add_metric([each.worker_id, "decode"], each.decoding)
        pending.add_metric([each.worker_id], each.pending_tokens)
        blocks.add_metric([each.worker_id, each.mirror_is], each.mirrored_blocks)
    yield from (requests, pending, blocks)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, value=value)


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, text, labels=labels)
