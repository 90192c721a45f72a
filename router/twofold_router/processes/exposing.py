"""The metrics of a router of several processes, as text."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from twofold_router.gateway.dispatcher import Dispatcher
from twofold_router.metrics import PREFIX, RouterSnapshot, metrics_text
from twofold_router.processes.gathering import Gathered


def router_text(gathered: Gathered, dispatcher: Dispatcher) -> bytes:
    """Write what one process would write of itself, and how many there are."""
    now = dispatcher.snapshot()
    snapshot = RouterSnapshot(
        gathered.tallies, now.placement, now.workers, dispatcher.is_stale, gathered.connections
    )
    registry = CollectorRegistry()
    registry.register(_Processes(gathered))
    return metrics_text(snapshot) + generate_latest(registry)


def families(gathered: Gathered) -> Iterator[Metric]:
    """Return the metrics that only a router of several processes has."""
    return _Processes(gathered).collect()


class _Processes(Collector):
    def __init__(self, gathered: Gathered) -> None:
        self._gathered = gathered

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        processes = GaugeMetricFamily(
            PREFIX + "processes",
            "Gateway processes; the counts of silent ones are of a moment before.",
            labels=("state",),
        )
        processes.add_metric(["answering"], self._gathered.answering)
        processes.add_metric(["silent"], self._gathered.silent)
        yield processes
        yield CounterMetricFamily(
            PREFIX + "process_ends",
            "Gateway processes that ended, each of which was replaced.",
            value=self._gathered.ended,
        )
