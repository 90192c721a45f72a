"""What came of asking a worker to pull the beginning of a prompt."""

from collections import Counter
from dataclasses import dataclass

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from twofold_cli.status import EXIT_DEGRADED, EXIT_READY
from twofold_cluster.identity import WorkerId
from twofold_kvtransfer.metric_names import PREFIX_BLOCKS, PREFIX_PULLS
from twofold_kvtransfer.prefixes import Outcome


@dataclass(frozen=True, slots=True)
class Counters:
    """What a worker has counted of prefixes since its engine began."""

    pulls: Counter[str]
    """By outcome."""
    block_count: int


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What came of asking *target* to pull a prompt's beginning from *source*."""

    target: WorkerId
    source: WorkerId
    token_count: int
    """Of the prompt."""
    wanted_token_count: int
    """In full blocks: of what the source may hold, what the target can use. It has to compute at
    least the prompt's last token."""
    cached_token_count: int
    """That were in the target's cache when it began to compute, pulled or not."""
    pulled_block_count: int
    """By the target while it was asked."""
    pulls: dict[str, int]
    """That ended at the target while it was asked, by outcome. One is ours; of several the others
    were for other requests. None: it did not try."""

    @property
    def is_there(self) -> bool:
        """What was wanted was not computed, wherever it came from."""
        return self.cached_token_count >= self.wanted_token_count


def report(
    before: Counters,
    after: Counters,
    *,
    target: WorkerId,
    source: WorkerId,
    token_count: int,
    wanted_token_count: int,
    cached_token_count: int,
) -> Report:
    """Put together what *target* counted *before* and *after* it was asked, and what it said."""
    return Report(
        target=target,
        source=source,
        token_count=token_count,
        wanted_token_count=wanted_token_count,
        cached_token_count=cached_token_count,
        pulled_block_count=max(0, after.block_count - before.block_count),
        pulls=dict(after.pulls - before.pulls),
    )


def read_counters(page: str) -> Counters:
    """Read the *page* of a worker's metrics; what it does not show counts as none.

    Raises:
        ValueError: it is no such page.
    """
    label = PREFIX_PULLS.label
    assert label is not None, "pulls are counted by outcome"
    pulls: Counter[str] = Counter()
    block_count = 0
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == PREFIX_PULLS.name:
                pulls[sample.labels[label]] += int(sample.value)
            elif sample.name == PREFIX_BLOCKS.name:
                block_count += int(sample.value)
    return Counters(pulls, block_count)


def exit_code(report: Report) -> int:
    """Return 0 if what was wanted was pulled or there already; 1: it was computed instead."""
    is_pulled = set(report.pulls) == {Outcome.PULLED.value}
    return EXIT_READY if report.is_there or is_pulled else EXIT_DEGRADED


def as_json(report: Report) -> str:
    return msgspec.json.encode(report).decode()
