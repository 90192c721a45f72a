"""The greatest QPS that is on time."""

import pytest
from msgspec.structs import replace

from twofold_sim.measuring import Goodput, Record, Served, Slo, goodput, goodputs, measure
from twofold_sim.measuring.conditions import conditions_of


def record(policy: str, qps: float, on_time: int, of: int = 10, seed: int = 0) -> Record:
    seconds = [1.0 if number < on_time else 9.0 for number in range(of)]
    served = [
        Served(number=number, at=0.0, prompt_tokens=10, ttft_seconds=each, end_seconds=each)
        for number, each in enumerate(seconds)
    ]
    return Record(
        policy=policy,
        workload="w",
        workers=8,
        qps=qps,
        seed=seed,
        slo=Slo(),
        measures=measure(served, Slo()),
    )


def test_between_two_points_the_share_falls_in_a_straight_line() -> None:
    assert goodput([(7.0, 1.0), (8.0, 0.8)]) == Goodput(7.5)
    assert goodput([(9.0, 0.0), (7.0, 0.95), (8.0, 0.9)]) == Goodput(8.0)


def test_it_is_a_bound_when_the_last_point_is_still_good() -> None:
    assert goodput([(7.0, 1.0), (8.0, 0.9)]) == Goodput(8.0, is_bound=True)


def test_it_is_none_when_the_first_point_is_bad_already() -> None:
    assert goodput([(7.0, 0.89), (8.0, 0.95)]) == Goodput(None)
    assert goodput([]) == Goodput(None)


def test_good_again_after_a_bad_point_counts_for_nothing() -> None:
    found = goodput([(6.0, 1.0), (7.0, 0.8), (8.0, 1.0)])

    assert found.qps == pytest.approx(6.5)
    assert not found.is_bound


def test_each_seed_has_its_own() -> None:
    records = [
        record("a", 1.0, 10),
        record("a", 2.0, 8),
        record("a", 1.0, 10, seed=1),
        record("a", 2.0, 9, seed=1),
        record("b", 1.0, 3),
    ]

    found = goodputs(records)

    conditions = conditions_of(records[0])
    assert found[conditions, "a"] == {0: Goodput(1.5), 1: Goodput(2.0, is_bound=True)}
    assert found[conditions, "b"] == {0: Goodput(None)}


def test_other_conditions_are_another_sweep() -> None:
    records = [record("a", 1.0, 10), record("a", 2.0, 8)]
    others = [replace(each, setup={"misprediction": 0.2}) for each in records]

    found = goodputs([*records, *others])

    assert list(found.values()) == [{0: Goodput(1.5)}, {0: Goodput(1.5)}]
