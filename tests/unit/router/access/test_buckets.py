"""The arithmetic of rate limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_router.access import Limits
from twofold_router.access.buckets import (
    WINDOW_SECONDS,
    Backlog,
    correction_of,
    cost_of,
    remaining,
    wait_seconds,
)

PER_MINUTE = st.integers(1, 1_000_000_000)


@given(limit=st.integers(1, 2000))
def test_a_full_bucket_gives_its_limit_at_once_and_not_one_more(limit: int) -> None:
    limits = Limits(requests_per_minute=limit)
    backlog = Backlog()
    for left in reversed(range(limit)):
        assert not any(wait_seconds(backlog, cost_of(limits, 1)))
        backlog = backlog.plus(cost_of(limits, 1))
        assert remaining(backlog.requests, limit) == left

    wait = wait_seconds(backlog, cost_of(limits, 1))
    assert wait.requests == pytest.approx(WINDOW_SECONDS / limit)


@given(
    limit=st.integers(1, 600),
    gaps=st.lists(st.floats(0.0, 90.0), min_size=1, max_size=200),
)
def test_no_stretch_of_time_gives_more_than_a_bucket_and_what_flowed_in(
    limit: int, gaps: list[float]
) -> None:
    limits, backlog, now = Limits(requests_per_minute=limit), Backlog(), 0.0
    granted_at: list[float] = []
    for gap in gaps:
        now, backlog = now + gap, backlog.after(gap)
        if not any(wait_seconds(backlog, cost_of(limits, 1))):
            backlog = backlog.plus(cost_of(limits, 1))
            granted_at.append(now)

    for first, began_at in enumerate(granted_at):
        for last in range(first, len(granted_at)):
            flowed_in = (granted_at[last] - began_at) * limit / WINDOW_SECONDS
            assert last - first + 1 <= limit + flowed_in + 0.001


@given(limit=PER_MINUTE, reserved=st.integers(0, 10**6), used=st.integers(0, 10**6))
def test_a_corrected_reservation_costs_what_was_used(limit: int, reserved: int, used: int) -> None:
    limits = Limits(tokens_per_minute=limit)
    before = Backlog(0.0, 100.0)

    after = before.plus(cost_of(limits, reserved)).plus(correction_of(limits, reserved, used))

    assert after.tokens == pytest.approx(100.0 + used * WINDOW_SECONDS / limit)


def test_a_request_larger_than_the_bucket_waits_for_a_full_one() -> None:
    limits = Limits(tokens_per_minute=100)
    cost = cost_of(limits, 5000)

    assert not any(wait_seconds(Backlog(), cost))
    assert wait_seconds(Backlog(0.0, 1.0), cost).tokens == pytest.approx(1.0)


def test_a_bucket_that_is_given_more_than_it_lent_is_only_full() -> None:
    assert Backlog(1.0, 2.0).plus(Backlog(0.0, -50.0)) == Backlog(1.0, 0.0)


def test_a_full_bucket_is_not_filled_further_by_time() -> None:
    assert Backlog(1.0, 2.0).after(1.5) == Backlog(0.0, 0.5)
    assert Backlog(2.0, 1.0).after(1.5) == Backlog(0.5, 0.0)


def test_a_limit_that_was_lifted_leaves_no_debt_to_wait_for() -> None:
    in_debt = Backlog(1000.0, 1000.0)

    assert wait_seconds(in_debt, cost_of(Limits(), 5)) == Backlog()
    assert wait_seconds(in_debt, cost_of(Limits(tokens_per_minute=60), 0)).tokens > 0


def test_a_debt_has_nothing_remaining() -> None:
    assert remaining(61.0, 60) == 0
    assert remaining(0.0, 60) == 60
