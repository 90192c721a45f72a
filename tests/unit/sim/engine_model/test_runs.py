"""Many steps in one, against the sum of them."""

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_sim.engine_model.runs import Run

SECONDS = st.sampled_from([0.0, 1e-9, 0.003, 0.1, 7.0])
GROWTHS = st.sampled_from([0.0, 1e-12, 1e-6, 0.002])


def ends(run: Run) -> list[float]:
    steps = (run.first_seconds + i * run.growth_seconds for i in range(run.step_count))
    return list(accumulate(steps, initial=run.began_at))[1:]


@given(SECONDS, GROWTHS, st.integers(1, 60))
def test_a_run_ends_when_all_its_steps_have(first: float, growth: float, count: int) -> None:
    run = Run(5.0, first, growth, count)

    assert [run.end_of(i + 1) for i in range(count)] == pytest.approx(ends(run))
    assert run.ends_at == run.end_of(count)


@given(SECONDS, GROWTHS, st.integers(1, 60), st.floats(0.0, 1.2))
def test_a_step_has_begun_when_the_one_before_has_ended(
    first: float, growth: float, count: int, share: float
) -> None:
    run = Run(5.0, first, growth, count)
    at = 5.0 + share * (run.ends_at - 5.0)

    begun = run.begun_by(at)

    assert begun == 1 or run.end_of(begun - 1) < at or begun == count
    assert begun == count or run.end_of(begun) >= at


@given(SECONDS, GROWTHS, st.integers(1, 60), st.integers(1, 60))
def test_at_the_end_of_a_step_the_next_has_not_begun(
    first: float, growth: float, count: int, step: int
) -> None:
    run = Run(5.0, first, growth, count)
    at = run.end_of(min(step, count))

    earliest = next(step for step in range(1, count + 1) if run.end_of(step) >= at)

    assert run.begun_by(at) == (count if at == run.ends_at else earliest)


def test_a_run_is_cut_after_the_step_that_goes_on() -> None:
    run = Run(1.0, 0.5, 0.0, 10)

    run.cut(2.2)

    assert (run.step_count, run.ends_at) == (3, 2.5)


def test_a_step_that_ends_at_the_cut_is_the_last_one() -> None:
    run = Run(1.0, 0.5, 0.0, 10)

    run.cut(2.0)

    assert (run.step_count, run.ends_at) == (2, 2.0)


def test_the_first_step_is_not_cut_off() -> None:
    run = Run(1.0, 0.5, 0.0, 10)

    run.cut(1.0)

    assert run.step_count == 1


def test_steps_without_a_length_are_all_over_at_once() -> None:
    assert Run(1.0, 0.0, 0.0, 10).begun_by(1.0) == 10
    assert not math.isnan(Run(1.0, 0.0, 0.0, 10).ends_at)
