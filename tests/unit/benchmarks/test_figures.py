import math

import pytest
from benchmarks.figures import quantile, ratios, slope, spread
from hypothesis import given
from hypothesis import strategies as st

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1)


@given(numbers, st.floats(0.01, 1.0))
def test_a_quantile_is_the_least_value_that_covers_its_share(
    values: list[float], share: float
) -> None:
    found = quantile(values, share)

    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)


def test_no_values_have_no_quantile() -> None:
    assert math.isnan(quantile([], 0.5))


def test_ratios_are_taken_round_by_round() -> None:
    assert ratios([1.0, 4.0], [4.0, 1.0]) == [0.25, 4.0]


def test_a_spread_keeps_the_extremes() -> None:
    found = spread([3.0, 1.0, 2.0])

    assert (found.lowest, found.median, found.highest) == (1.0, 2.0, 3.0)


@given(st.floats(-10, 10), st.floats(-10, 10))
def test_the_slope_of_a_line_is_found(rise: float, start: float) -> None:
    points = [(float(x), start + rise * x) for x in range(5)]

    assert slope(points) == pytest.approx(rise, abs=1e-6)


def test_no_line_has_no_slope() -> None:
    assert slope([]) == 0
    assert slope([(1.0, 5.0)]) == 0
