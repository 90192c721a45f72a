"""Counts that cost next to nothing to take, and can be added up over the processes of a router.

prometheus_client's own counters take microseconds each, for locks and label look-ups that a single
thread has no use for; a request takes ten of them. Here a count is an entry of a dict and a
histogram a list, and prometheus_client writes them out when somebody reads.
"""

from bisect import bisect_left
from collections.abc import Iterable

import msgspec

Labels = tuple[str, ...]

SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
    *(2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0),
)
"""Upper bounds of buckets for what a client waits for."""

SHORT_SECONDS = (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 1e-2, 0.1)
"""Upper bounds of buckets for what the router does itself."""


TOKEN_SECONDS = (
    *(0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05),
    *(0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5),
)
"""Upper bounds of buckets for the time of one token."""


class Distribution(msgspec.Struct):
    """A histogram of one set of labels; ``counts`` has one bucket more than ``bounds``."""

    bounds: tuple[float, ...]
    counts: list[int]
    sum: float = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Tallies(msgspec.Struct):
    """All counts of one process, by the name of the metric and the values of its labels."""

    counts: dict[str, dict[Labels, float]] = {}
    distributions: dict[str, dict[Labels, Distribution]] = {}

    def counter(self, name: str) -> dict[Labels, float]:
        """Return the counts of metric *name*, to be counted up."""
        return self.counts.setdefault(name, {})

    def distribution(
        self, name: str, bounds: tuple[float, ...] = SECONDS, labels: Labels = ()
    ) -> Distribution:
        """Return the histogram of metric *name* with *labels*."""
        table = self.distributions.setdefault(name, {})
        if labels not in table:
            table[labels] = Distribution(bounds, [0] * (len(bounds) + 1))
        return table[labels]


def total(tallies: Iterable[Tallies]) -> Tallies:
    """Add up *tallies*."""
    result = Tallies()
    for each in tallies:
        for name, counts in each.counts.items():
            sums = result.counter(name)
            for labels, value in counts.items():
                sums[labels] = sums.get(labels, 0.0) + value
        for name, table in each.distributions.items():
            for labels, distribution in table.items():
                known = result.distribution(name, distribution.bounds, labels)
                known.sum += distribution.sum
                for index, count in enumerate(distribution.counts):
                    known.counts[index] += count
    return result
