"""What Prometheus is told. No label takes a value from a client."""

import enum
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from twofold_cluster.identity import Role
from twofold_cluster.worker import Worker
from twofold_router.placement import Dispatch, PlacementSnapshot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_PREFIX = "twofold_router_"
_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
    *(2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0),
)


class Leg(enum.StrEnum):
    """The requests that the router makes."""

    PREFILL = "1"
    DECODE = "2"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class RouterSnapshot:
    """The state of all owners at one moment."""

    placement: PlacementSnapshot
    workers: tuple[Worker, ...]
    membership_is_stale: bool


class Metrics:
    """Counts what happens. What *is*, it asks *snapshot* for when somebody reads."""

    def __init__(self, snapshot: Callable[[], RouterSnapshot]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_State(snapshot))
        self._requests = self._counter(
            "requests", "Requests answered, or left by their clients.", "mode", "reason", "status"
        )
        self._errors = self._counter(
            "upstream_errors", "Requests to workers that failed.", "leg", "kind"
        )
        self._retries = self._counter("retries", "Searches for another worker.", "leg")
        self._releases = self._counter("releases", "Releases of unread blocks.", "outcome")
        self._queue = self._histogram("queue_seconds", "From asking for a place to having one.")
        self._ttft = self._histogram("ttft_seconds", "From arrival to a stream's first byte.")
        self._legs = self._histogram("leg_seconds", "Of one request to a worker.", "leg")

    def request(self, dispatch: Dispatch | None, status: str) -> None:
        """Count one request; *status* is ``2xx`` and so on, or ``left``."""
        mode = dispatch.mode if dispatch else "none"
        reason = (dispatch.reason if dispatch else None) or ""
        self._requests.labels(mode, reason, status).inc()

    def upstream_error(self, leg: Leg, kind: str) -> None:
        self._errors.labels(leg, kind).inc()

    def retry(self, leg: Leg) -> None:
        self._retries.labels(leg).inc()

    def release(self, outcome: str) -> None:
        self._releases.labels(outcome).inc()

    def ttft(self, seconds: float) -> None:
        self._ttft.observe(seconds)

    @contextmanager
    def leg(self, leg: Leg) -> Iterator[None]:
        """Time one request to a worker, however it ends."""
        with _timed(self._legs.labels(leg)):
            yield

    @contextmanager
    def queue(self) -> Iterator[None]:
        """Time one wait for a place, however it ends."""
        with _timed(self._queue):
            yield

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(_PREFIX + name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(_PREFIX + name, text, labels, buckets=_SECONDS, registry=self.registry)


class _State(Collector):
    """Gauges made anew at every reading, so that a worker that left leaves no label behind."""

    def __init__(self, snapshot: Callable[[], RouterSnapshot]) -> None:
        self._snapshot = snapshot

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        now = self._snapshot()
        yield _gauge("in_flight", "Requests placed on workers.", now.placement.in_flight)
        yield _gauge("queued", "Requests that wait for a worker.", now.placement.queued)
        yield _gauge(
            "membership_stale", "1 while Redis cannot be read.", int(now.membership_is_stale)
        )
        workers = _family("workers", "Workers known.", "role")
        for role in Role:
            workers.add_metric([role], sum(worker.role is role for worker in now.workers))
        yield workers
        in_flight = _family("worker_in_flight", "Requests of ours at a worker.", "worker", "phase")
        for counts in now.placement.workers:
            in_flight.add_metric([counts.worker_id, "prefill"], counts.unprefilled)
            in_flight.add_metric([counts.worker_id, "decode"], counts.decoding)
        yield in_flight


def _gauge(name: str, text: str, value: int) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, text, value=value)


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, text, labels=labels)


@contextmanager
def _timed(histogram: Histogram) -> Iterator[None]:
    began_at = time.monotonic()
    try:
        yield
    finally:
        histogram.observe(time.monotonic() - began_at)
