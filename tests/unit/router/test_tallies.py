"""Counts, histograms, and their sums over processes."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_router.tallies import SECONDS, Tallies, total

NAMES = st.sampled_from(["a", "b"])
LABELS = st.sampled_from([(), ("x",), ("y",)])
COUNTS = st.lists(st.tuples(NAMES, LABELS, st.integers(0, 9)))
OBSERVED = st.lists(st.tuples(NAMES, LABELS, st.floats(0, 1000)))


@pytest.mark.parametrize(
    ("value", "bucket"), [(0.0, 0), (0.005, 0), (0.0051, 1), (640.0, 16), (641.0, 17)]
)
def test_a_value_is_in_the_first_bucket_that_it_does_not_exceed(value: float, bucket: int) -> None:
    distribution = Tallies().distribution("d")
    distribution.observe(value)

    assert distribution.counts.index(1) == bucket
    assert sum(distribution.counts) == 1
    assert distribution.sum == value


def test_a_histogram_has_one_bucket_more_than_bounds() -> None:
    distribution = Tallies().distribution("d", (1.0, 2.0))

    assert distribution.counts == [0, 0, 0]
    assert list(SECONDS) == sorted(SECONDS)


def test_a_counter_is_the_same_whenever_it_is_asked_for() -> None:
    tallies = Tallies()
    tallies.counter("a")[("x",)] = 1.0
    tallies.distribution("d", labels=("x",)).observe(1.0)

    assert tallies.counter("a") == {("x",): 1.0}
    assert sum(tallies.distribution("d", labels=("x",)).counts) == 1
    assert Tallies().counts == {}, "no two share their counts"


def tally(counts: list[tuple[str, tuple[str, ...], int]], observed: list[object]) -> Tallies:
    tallies = Tallies()
    for name, labels, count in counts:
        counter = tallies.counter(name)
        counter[labels] = counter.get(labels, 0.0) + count
    for name, labels, value in observed:  # type: ignore[misc]
        tallies.distribution(name, (1.0, 10.0), labels).observe(value)  # type: ignore[has-type]
    return tallies


@given(COUNTS, OBSERVED, st.data())
def test_the_sum_over_processes_is_as_if_there_were_one(
    counts: list[tuple[str, tuple[str, ...], int]], observed: list[object], data: st.DataObject
) -> None:
    cut_counts = data.draw(st.integers(0, len(counts)))
    cut_observed = data.draw(st.integers(0, len(observed)))
    parts = [
        tally(counts[:cut_counts], observed[:cut_observed]),
        tally(counts[cut_counts:], observed[cut_observed:]),
    ]
    before = msgspec.msgpack.encode(parts)
    added, alone = total(parts), tally(counts, observed)

    assert added.counts == alone.counts
    assert added.distributions.keys() == alone.distributions.keys()
    for name, table in alone.distributions.items():
        for labels, distribution in table.items():
            assert added.distributions[name][labels].counts == distribution.counts
            assert added.distributions[name][labels].sum == pytest.approx(distribution.sum)
    assert msgspec.msgpack.encode(parts) == before, "the parts stay as they were"


def test_tallies_travel_between_processes() -> None:
    tallies = tally([("a", ("x", "y"), 3)], [("d", (), 0.5)])

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(tallies), type=Tallies) == tallies
