"""What a caller is told of its limits."""

import pytest

from twofold_cluster.errors import Fault
from twofold_router.access import Admission, Limits, RateLimitedError
from twofold_router.access.buckets import Backlog, cost_of
from twofold_router.access.limiting import limit_headers


def test_the_headers_are_openais() -> None:
    admission = Admission("k", Limits(60, 150_000), 16, Backlog(1.0, 16 * 60 / 150_000))

    assert admission.headers() == [
        (b"x-ratelimit-limit-requests", b"60"),
        (b"x-ratelimit-remaining-requests", b"59"),
        (b"x-ratelimit-reset-requests", b"1s"),
        (b"x-ratelimit-limit-tokens", b"150000"),
        (b"x-ratelimit-remaining-tokens", b"149984"),
        (b"x-ratelimit-reset-tokens", b"7ms"),
    ]


def test_a_bucket_without_a_limit_has_no_headers() -> None:
    names = [name for name, _ in limit_headers(Limits(tokens_per_minute=5), Backlog())]

    assert names == [
        b"x-ratelimit-limit-tokens",
        b"x-ratelimit-remaining-tokens",
        b"x-ratelimit-reset-tokens",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, b"0s"),
        (0.0001, b"1ms"),
        (0.999, b"999ms"),
        (0.9995, b"1s"),
        (1.5, b"1.5s"),
        (59.9999, b"1m0s"),
        (360.0, b"6m0s"),
        (72.125, b"1m12.125s"),
    ],
)
def test_durations_are_written_as_go_does(seconds: float, text: bytes) -> None:
    [*_, (_, reset)] = limit_headers(Limits(requests_per_minute=1), Backlog(requests=seconds))

    assert reset == text


def test_a_refusal_tells_when_to_come_back() -> None:
    limits = Limits(60, 1000)
    backlog = Backlog(10.0, 57.0)

    error = RateLimitedError("alice", limits, backlog, cost_of(limits, 100))

    assert error.fault is Fault.QUEUE_FULL
    assert (error.fault.status, error.fault.code) == (429, "rate_limit_exceeded")
    assert error.retry_after_seconds == 3
    assert "1000 tokens per minute" in error.message
    assert (b"x-ratelimit-remaining-tokens", b"50") in error.headers


def test_a_refusal_names_the_bucket_that_takes_longest() -> None:
    limits = Limits(60, 1000)

    error = RateLimitedError("alice", limits, Backlog(62.0, 60.0), cost_of(limits, 1))

    assert "60 requests per minute" in error.message
    assert error.retry_after_seconds == 3


def test_nobody_is_told_to_come_back_at_once() -> None:
    limits = Limits(requests_per_minute=6000)

    error = RateLimitedError("alice", limits, Backlog(60.0, 0.0), cost_of(limits, 1))

    assert error.retry_after_seconds == 1
