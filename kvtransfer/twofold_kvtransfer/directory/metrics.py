"""What a feeder has done, as Prometheus reads it."""

from collections.abc import Callable, Iterator

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from twofold_kvtransfer.directory.feeder import FeedSnapshot

PREFIX = "twofold_kv_directory_"


class FeedCollector(Collector):
    """Asks *read* for a feeder's snapshot whenever somebody looks."""

    def __init__(self, read: Callable[[], FeedSnapshot]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from families(self._read())


def families(now: FeedSnapshot) -> Iterator[Metric]:
    """Return *now* as metrics; who the worker is, is for who scrapes it to say."""
    batches = CounterMetricFamily(
        f"{PREFIX}batches",
        "Batches of KV events that the block directory has taken in, or that were missed for good.",
        labels=("outcome",),
    )
    batches.add_metric(("applied",), now.applied_batches)
    batches.add_metric(("lost",), now.lost_batches)
    yield batches
    yield CounterMetricFamily(
        f"{PREFIX}rebuilds",
        "Times that all this worker holds was told anew: at first, after a gap or a loss of Redis.",
        value=now.rebuilds,
    )
    yield CounterMetricFamily(
        f"{PREFIX}refused_blocks",
        "Blocks that were told and that the directory had no room for.",
        value=now.refused_blocks,
    )
    yield CounterMetricFamily(
        f"{PREFIX}errors", "Times that Redis could not be told.", value=now.errors
    )
    yield GaugeMetricFamily(
        f"{PREFIX}holdings",
        "Blocks in a tier that this worker holds, as far as its feeder knows.",
        value=now.holdings,
    )
    yield GaugeMetricFamily(
        f"{PREFIX}degraded",
        "1 while this worker may hold more than the directory lists.",
        value=now.degraded,
    )
    yield GaugeMetricFamily(
        f"{PREFIX}lag_seconds",
        "How long the oldest batch that the directory does not know has waited.",
        value=now.lag_seconds,
    )
