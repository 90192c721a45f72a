"""What a worker's metrics say of the prefixes that it has pulled."""

from collections import Counter
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from twofold_kvtransfer.metric_names import PREFIX_BLOCKS, PREFIX_PULLS


@dataclass(frozen=True, slots=True)
class Counters:
    """What a worker has counted of prefixes since its engine began."""

    pulls: Counter[str]
    """By outcome."""
    block_count: int


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
