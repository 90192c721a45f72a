import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_kvtransfer.codecs.averages import SteadyAverage

POSITIVE = st.floats(1e-12, 1e12)
INSIDE = st.floats(1 / 1.4, 1.4)


@given(POSITIVE, POSITIVE)
def test_one_value_far_outside_changes_nothing(start: float, outlier: float) -> None:
    average = SteadyAverage(start)
    average.add(start * outlier)

    assert abs(math.log(average.value / start)) <= math.log(1.5) / 4 + 1e-9


@given(st.lists(st.sampled_from([1e-6, 1.0, 1.1, 0.9, 1e6]), max_size=60))
def test_outliers_that_never_come_three_in_a_row_change_nothing(values: list[float]) -> None:
    average, outside = SteadyAverage(1.0), 0
    for value in values:
        outside = outside + 1 if value in (1e-6, 1e6) else 0
        if outside < 3:
            average.add(value)
        else:
            outside = 2

    assert 0.9 <= average.value <= 1.1


@given(POSITIVE, st.floats(2.0, 1e6), st.booleans())
def test_three_values_that_agree_are_followed(start: float, factor: float, down: bool) -> None:
    average = SteadyAverage(start)
    target = start / factor if down else start * factor

    for _ in range(3):
        average.add(target)

    assert average.value == pytest.approx(target)


@given(POSITIVE, st.lists(INSIDE, min_size=1, max_size=50))
def test_the_average_stays_among_what_it_saw(start: float, factors: list[float]) -> None:
    average = SteadyAverage(start)
    for factor in factors:
        average.add(start * factor)

    assert min(1.0, *factors) - 1e-9 <= average.value / start <= max(1.0, *factors) + 1e-9


def test_a_guess_gives_way_to_the_first_value() -> None:
    average = SteadyAverage(1.0, guessed=True)
    average.add(1000.0)

    assert average.value == pytest.approx(1000.0)
    average.add(1.0)
    assert average.value == pytest.approx(1000.0)


def test_an_average_of_few_values_gives_way_to_one_more() -> None:
    average = SteadyAverage(1.0, guessed=True)
    average.add(1000.0)

    average.add(1.0)
    assert average.value == pytest.approx(1000.0)
    average.add(1.0)
    assert average.value == pytest.approx(1.0)


@given(POSITIVE, st.lists(POSITIVE, max_size=20), POSITIVE)
def test_a_doubted_average_takes_the_next_value_for_what_it_is(
    start: float, before: list[float], value: float
) -> None:
    average = SteadyAverage(start)
    for each in before:
        average.add(each)

    average.doubt()
    average.add(value)

    assert average.value == pytest.approx(value)


@given(POSITIVE, st.lists(INSIDE, max_size=50))
def test_the_upper_estimate_is_the_average_and_at_most_the_gate_above(
    start: float, factors: list[float]
) -> None:
    average = SteadyAverage(start)
    for factor in factors:
        average.add(start * factor)

    assert 1 - 1e-9 <= average.upper / average.value <= SteadyAverage.GATE + 1e-9


def test_values_that_vary_raise_the_upper_estimate_and_steady_ones_do_not() -> None:
    steady, varying = SteadyAverage(1.0), SteadyAverage(1.0)
    for _ in range(10):
        steady.add(1.0)
        varying.add(1.2)
        varying.add(1 / 1.2)

    assert steady.upper == pytest.approx(1.0)
    assert varying.upper > 1.1 * varying.value


def test_an_outlier_does_not_raise_the_upper_estimate() -> None:
    average = SteadyAverage(1.0)
    average.add(100.0)

    assert average.upper == pytest.approx(1.0)
