"""The rolling median against the plain definition."""

import statistics

from hypothesis import given
from hypothesis import strategies as st

from twofold_router.placement.rolling_quantile import RollingQuantile


def test_there_is_no_median_before_the_first_sample() -> None:
    assert RollingQuantile(3).value is None


@given(st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=40), st.integers(1, 9))
def test_it_is_the_median_of_the_last_samples_only(samples: list[float], window: int) -> None:
    rolling = RollingQuantile(window)

    for sample in samples:
        rolling.add(sample)

    assert rolling.value == statistics.median_low(samples[-window:])
    assert len(rolling) == min(len(samples), window)
