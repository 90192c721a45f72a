"""The limiter of one process; what all limiters do is tested where a real Redis is."""

import pytest

from twofold_router.access import Limits, LocalLimiter, RateLimitedError

LIMITS = Limits(requests_per_minute=2, tokens_per_minute=100)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_time_gives_a_request_back() -> None:
    clock = Clock()
    limiter = LocalLimiter(clock)
    for _ in range(2):
        await limiter.admit("k", LIMITS, 1)
    clock.now += 29.9
    with pytest.raises(RateLimitedError):
        await limiter.admit("k", LIMITS, 1)

    clock.now += 0.1

    await limiter.admit("k", LIMITS, 1)
    with pytest.raises(RateLimitedError):
        await limiter.admit("k", LIMITS, 1)


async def test_keys_that_have_gone_are_forgotten() -> None:
    limiter = LocalLimiter(Clock())
    admission = await limiter.admit("gone", LIMITS, 1)
    await limiter.admit("stays", LIMITS, 1)

    limiter.keep_only({"stays", "new"})
    limiter.settle(admission, 50)

    assert len(limiter) == 1
    await limiter.admit("stays", LIMITS, 1)
    with pytest.raises(RateLimitedError):
        await limiter.admit("stays", LIMITS, 1)


async def test_a_changed_limit_takes_the_used_share_with_it() -> None:
    limiter = LocalLimiter(Clock())
    await limiter.admit("k", Limits(requests_per_minute=2), 1)

    admission = await limiter.admit("k", Limits(requests_per_minute=200), 1)

    assert (b"x-ratelimit-remaining-requests", b"99") in admission.headers()
