"""The greatest rate that is still good."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_sim.planning.goodput import Bracket, search_goodput

RATES = st.floats(0.01, 100.0)


@given(limit=RATES, guess=st.floats(0.5, 2.0), growth=st.floats(1.05, 4.0))
def test_the_limit_is_in_a_narrow_bracket(limit: float, guess: float, growth: float) -> None:
    found = search_goodput(lambda qps: qps <= limit, guess * limit, growth=growth, tolerance=0.02)

    assert found.good_qps <= limit < found.bad_qps <= found.good_qps * 1.02


@given(limit=RATES, below=st.floats(0.3, 1.0), above=st.floats(1.001, 3.0))
def test_what_is_known_is_not_tried_again(limit: float, below: float, above: float) -> None:
    known = Bracket(limit * below, limit * above)
    tried: list[float] = []

    def is_good(qps: float) -> bool:
        tried.append(qps)
        return qps <= limit

    found = search_goodput(is_good, limit * 2, known=known)

    assert all(known.good_qps < qps < known.bad_qps for qps in tried)
    assert found.good_qps <= limit < found.bad_qps


def test_what_is_never_good_has_no_goodput() -> None:
    found = search_goodput(lambda qps: False, 8.0)

    assert found.good_qps == 0.0
    assert found.bad_qps < 0.01


def test_what_is_always_good_has_no_limit() -> None:
    found = search_goodput(lambda qps: True, 8.0)

    assert found.bad_qps == math.inf
    assert found.good_qps > 1000


@pytest.mark.parametrize(
    ("limit", "growth", "run_count"),
    [(8.0, 1.2, 6), (9.0, 1.2, 6), (30.0, 2.0, 9), (1.0, 2.0, 10), (100.0, 1.2, 19)],
)
def test_the_better_the_guess_the_fewer_runs(limit: float, growth: float, run_count: int) -> None:
    tried: list[float] = []

    def is_good(qps: float) -> bool:
        tried.append(qps)
        return qps <= limit

    search_goodput(is_good, 8.0, growth=growth)

    assert len(tried) <= run_count
