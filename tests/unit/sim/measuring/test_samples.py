"""The load over time."""

import math

import pytest

from twofold_sim.measuring import Samples


def taken(*moments: dict[str, float]) -> Samples:
    samples = Samples(interval_seconds=2.0)
    for moment in moments:
        samples.take(moment)
    return samples


def test_even_load_does_not_vary() -> None:
    assert taken({"a": 5.0, "b": 5.0}).variation() == 0.0


def test_all_at_one_worker_varies_by_the_root_of_the_others() -> None:
    samples = taken({"a": 9.0, "b": 0.0, "c": 0.0, "d": 0.0, "e": 0.0})

    assert samples.variation() == pytest.approx(2.0)


def test_the_variation_is_the_mean_over_the_moments_with_any_load() -> None:
    samples = taken({"a": 9.0, "b": 0.0}, {"a": 0.0, "b": 0.0}, {"a": 1.0, "b": 1.0})

    assert samples.variation() == 0.5


def test_only_moments_within_the_bounds_count() -> None:
    samples = taken({"a": 9.0, "b": 0.0}, {"a": 3.0, "b": 3.0}, {"a": 0.0, "b": 9.0})

    assert samples.variation(1.0, 3.0) == 0.0
    assert samples.variation(5.0) is None


def test_workers_that_join_and_leave_count_while_they_are_there() -> None:
    samples = taken({"a": 4.0}, {"a": 4.0, "b": 4.0}, {"b": 7.0})

    assert samples.worker_ids == ["a", "b"]
    assert list(samples.moments()) == [(0.0, [4.0]), (2.0, [4.0, 4.0]), (4.0, [7.0])]
    assert samples.variation() == 0.0


def test_a_worker_that_replaces_another_is_a_column_of_its_own() -> None:
    samples = taken({"a": 1.0, "b": 2.0}, {"a": 3.0, "c": 4.0})

    assert samples.pending_tokens == [[1.0, 2.0], [3.0, None, 4.0]]


def test_nothing_pending_has_no_variation() -> None:
    assert taken({"a": 0.0}).variation() is None
    assert Samples(interval_seconds=1.0).variation(0.0, math.inf) is None


def test_three_workers_vary_as_computed_by_hand() -> None:
    assert taken({"a": 1.0, "b": 2.0, "c": 3.0}).variation() == pytest.approx(
        math.sqrt(2 / 3) / 2.0
    )
