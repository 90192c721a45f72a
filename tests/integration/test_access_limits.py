"""One contract for the limiters of one process and of several, the latter with a real Valkey."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis

from twofold_cluster.membership import connect
from twofold_router.access import (
    Accounts,
    Admission,
    Limiter,
    Limits,
    LocalLimiter,
    RateLimitedError,
    SharedLimiter,
)
from twofold_router.access.shared_limiting import (
    MAX_BATCH,
    MAX_WAITING,
    RETRY_SECONDS,
    SETTLE_SECONDS,
    TIMEOUT_SECONDS,
)

if TYPE_CHECKING:
    from tests.integration.conftest import Valkey

SERVICE = "qwen"
PATIENT_SECONDS = 10.0
"""For Valkey's answers where the claim is not about time: the machine may be busy."""

BOTH = Limits(requests_per_minute=3, tokens_per_minute=60)
TOKENS = Limits(tokens_per_minute=60)
REQUESTS = Limits(requests_per_minute=6)


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """A limiter, and time that can be moved forward for it."""

    limiter: Limiter
    pass_time: Callable[[float], Awaitable[None]]
    tell: Callable[[], Awaitable[None]] = field(default=lambda: asyncio.sleep(0))
    """Returns when all settlements count."""

    async def refused(self, name: str, limits: Limits, tokens: int = 1) -> RateLimitedError | None:
        try:
            await self.limiter.admit(name, limits, tokens)
        except RateLimitedError as error:
            return error
        return None


@asynccontextmanager
async def running(redis: "Redis", **settings: Any) -> AsyncIterator[SharedLimiter]:
    settings = {"timeout_seconds": PATIENT_SECONDS, **settings}
    limiter = SharedLimiter(Accounts(redis, SERVICE), **settings)
    task = asyncio.create_task(limiter.run())
    await asyncio.sleep(0)
    try:
        yield limiter
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def local_bench() -> AsyncIterator[Bench]:
    clock = Clock()

    async def pass_time(seconds: float) -> None:
        clock.now += seconds

    yield Bench(LocalLimiter(clock), pass_time)


@asynccontextmanager
async def shared_bench(valkey: "Valkey") -> AsyncIterator[Bench]:
    async with connect(valkey.url) as redis, running(redis) as limiter:

        async def pass_time(seconds: float) -> None:
            # Valkey's clock cannot be moved; what happened is moved into the past instead.
            for account in await redis.keys("*:limit:*"):
                await redis.hincrbyfloat(account, "at", -seconds)

        async def tell() -> None:
            await limiter.admit("someone-else", Limits(), 1)

        yield Bench(limiter, pass_time, tell)


@pytest.fixture(params=["local", "shared"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    opened = (
        local_bench()
        if request.param == "local"
        else shared_bench(request.getfixturevalue("valkey"))
    )
    async with opened as bench:
        yield bench


async def test_a_key_has_its_limit_at_once_and_then_what_time_gives(bench: Bench) -> None:
    for _ in range(6):
        await bench.limiter.admit("k", REQUESTS, 1)
    refusal = await bench.refused("k", REQUESTS)
    assert refusal is not None
    assert refusal.retry_after_seconds == 10

    await bench.pass_time(10.0)

    assert await bench.refused("k", REQUESTS) is None
    assert await bench.refused("k", REQUESTS) is not None


async def test_no_minute_begins_anew(bench: Bench) -> None:
    await bench.pass_time(59.0)
    for _ in range(6):
        await bench.limiter.admit("k", REQUESTS, 1)

    await bench.pass_time(2.0)

    assert await bench.refused("k", REQUESTS) is not None


async def test_a_bucket_never_holds_more_than_a_minutes_worth(bench: Bench) -> None:
    await bench.limiter.admit("k", REQUESTS, 1)
    await bench.pass_time(3600.0)

    for _ in range(6):
        await bench.limiter.admit("k", REQUESTS, 1)

    assert await bench.refused("k", REQUESTS) is not None


async def test_keys_do_not_touch_each_other(bench: Bench) -> None:
    for _ in range(6):
        await bench.limiter.admit("k", REQUESTS, 1)

    assert await bench.refused("other", REQUESTS) is None


async def test_a_refusal_takes_nothing_from_either_bucket(bench: Bench) -> None:
    await bench.limiter.admit("k", BOTH, 50)
    for _ in range(5):
        refusal = await bench.refused("k", BOTH, 50)
        assert refusal is not None
        assert "60 tokens per minute" in refusal.message

    assert await bench.refused("k", BOTH, 5) is None
    assert await bench.refused("k", BOTH, 5) is None
    refusal = await bench.refused("k", BOTH, 0)
    assert refusal is not None
    assert "3 requests per minute" in refusal.message


async def test_what_was_reserved_and_not_used_comes_back(bench: Bench) -> None:
    admission = await bench.limiter.admit("k", TOKENS, 60)
    assert await bench.refused("k", TOKENS, 30) is not None

    bench.limiter.settle(admission, 20)
    await bench.tell()

    assert await bench.refused("k", TOKENS, 40) is None
    assert await bench.refused("k", TOKENS, 5) is not None


async def test_what_was_used_beyond_the_reservation_is_a_debt(bench: Bench) -> None:
    admission = await bench.limiter.admit("k", TOKENS, 10)

    bench.limiter.settle(admission, 180)
    await bench.tell()

    refusal = await bench.refused("k", TOKENS, 1)
    assert refusal is not None
    assert refusal.retry_after_seconds in (120, 121)
    assert dict(refusal.headers)[b"x-ratelimit-remaining-tokens"] == b"0"
    await bench.pass_time(119.0)
    assert await bench.refused("k", TOKENS, 5) is not None
    await bench.pass_time(7.0)
    assert await bench.refused("k", TOKENS, 5) is None


async def test_a_request_larger_than_its_limit_is_possible_and_paid_for(bench: Bench) -> None:
    admission = await bench.limiter.admit("k", TOKENS, 6000)

    bench.limiter.settle(admission, 120)
    await bench.tell()

    await bench.pass_time(59.0)
    assert await bench.refused("k", TOKENS, 1) is not None
    await bench.pass_time(3.0)
    assert await bench.refused("k", TOKENS, 1) is None


async def test_what_time_gave_back_is_not_given_back_again(bench: Bench) -> None:
    admission = await bench.limiter.admit("k", TOKENS, 30)
    await bench.pass_time(3600.0)

    bench.limiter.settle(admission, 0)

    assert await bench.refused("k", TOKENS, 60) is None
    assert await bench.refused("k", TOKENS, 5) is not None


async def test_a_limit_that_was_lifted_leaves_no_debt(bench: Bench) -> None:
    bench.limiter.settle(await bench.limiter.admit("k", BOTH, 60), 600)
    await bench.tell()
    assert await bench.refused("k", BOTH) is not None

    assert await bench.refused("k", REQUESTS) is None


async def test_the_headers_tell_what_is_left(bench: Bench) -> None:
    await bench.limiter.admit("k", BOTH, 10)

    headers = dict((await bench.limiter.admit("k", BOTH, 10)).headers())

    assert headers[b"x-ratelimit-limit-requests"] == b"3"
    assert headers[b"x-ratelimit-remaining-requests"] == b"1"
    assert headers[b"x-ratelimit-limit-tokens"] == b"60"
    assert 40 <= int(headers[b"x-ratelimit-remaining-tokens"]) <= 41
    assert 39.0 < float(headers[b"x-ratelimit-reset-requests"].rstrip(b"s")) <= 40.0


async def test_many_at_once_get_no_more_than_the_limit(bench: Bench) -> None:
    limits = Limits(requests_per_minute=100)

    refusals = await asyncio.gather(*(bench.refused("k", limits) for _ in range(600)))

    # A machine that stands still for a while may let one or two flow in.
    assert 100 <= refusals.count(None) <= 105


async def granted(limiter: Limiter, name: str, limits: Limits, attempts: int) -> list[Admission]:
    admissions = []
    for _ in range(attempts):
        try:
            admissions.append(await limiter.admit(name, limits, 1))
        except RateLimitedError:
            break
    return admissions


async def test_replicas_share_what_a_key_may(valkey: "Valkey") -> None:
    async with connect(valkey.url) as redis, running(redis) as one, running(redis) as two:
        first = await granted(one, "k", REQUESTS, 4)
        second = await granted(two, "k", REQUESTS, 4)

        assert (len(first), len(second)) == (4, 2)
        assert all(admission.is_shared for admission in first + second)


async def test_a_quiet_keys_settlement_reaches_the_other_replicas(valkey: "Valkey") -> None:
    async with connect(valkey.url) as redis, running(redis) as one, running(redis) as two:
        one.settle(await one.admit("k", TOKENS, 60), 0)

        await asyncio.sleep(2 * SETTLE_SECONDS)

        await two.admit("k", TOKENS, 50)


async def test_a_quiet_keys_settlement_goes_along_with_the_requests_of_others(
    valkey: "Valkey",
) -> None:
    async with connect(valkey.url) as redis, running(redis) as one, running(redis) as two:
        one.settle(await one.admit("k", TOKENS, 60), 0)

        await one.admit("other", TOKENS, 1)

        await two.admit("k", TOKENS, 50)


async def test_requests_that_gather_are_asked_for_one_batch_after_the_other(
    valkey: "Valkey",
) -> None:
    async with connect(valkey.url) as redis, running(redis) as limiter:
        began_at = time.monotonic()
        asks = (limiter.admit("k", Limits(10**6), 1) for _ in range(10 * MAX_BATCH))
        admissions = await asyncio.gather(*asks)

        assert all(admission.is_shared for admission in admissions)
        assert time.monotonic() - began_at < 8 * SETTLE_SECONDS


async def test_no_more_wait_than_may(valkey: "Valkey") -> None:
    alone: list[None] = []
    async with (
        connect(valkey.url) as redis,
        running(redis, on_alone=lambda: alone.append(None)) as limiter,
        asyncio.TaskGroup() as all_,
    ):
        with stopped(valkey):
            for _ in range(MAX_WAITING + 5):
                all_.create_task(limiter.admit("k", Limits(10**6), 1))
            await asyncio.sleep(0)

            assert len(alone) == 5


async def test_services_in_one_redis_do_not_touch_each_other(valkey: "Valkey") -> None:
    async with connect(valkey.url) as redis, running(redis) as limiter:
        await granted(limiter, "k", REQUESTS, 6)

        assert await redis.keys() == [b"twofold:{qwen}:limit:k"]


async def test_an_account_ends_when_its_buckets_are_full(valkey: "Valkey") -> None:
    async with connect(valkey.url) as redis, running(redis) as limiter:
        await limiter.admit("k", Limits(requests_per_minute=600), 1)
        assert await redis.keys() != []

        await asyncio.sleep(0.3)

        assert await redis.keys() == []


async def test_without_its_task_a_replica_decides_alone(valkey: "Valkey") -> None:
    async with connect(valkey.url) as redis:
        async with running(redis) as limiter:
            pass
        admissions = await granted(limiter, "k", REQUESTS, 10)

    assert len(admissions) == 6
    assert not any(admission.is_shared for admission in admissions)


async def test_a_request_that_waits_as_the_task_ends_is_decided_alone(valkey: "Valkey") -> None:
    async with connect(valkey.url) as redis:
        with stopped(valkey):
            async with running(redis) as limiter:
                waits = asyncio.create_task(limiter.admit("k", REQUESTS, 1))
                await asyncio.sleep(0.05)
            admission = await asyncio.wait_for(waits, PATIENT_SECONDS / 2)

    assert not admission.is_shared


async def test_while_redis_is_away_a_key_has_what_it_had_left(valkey: "Valkey") -> None:
    decisions: list[None] = []
    async with (
        connect(valkey.url) as redis,
        running(redis, on_alone=lambda: decisions.append(None)) as limiter,
    ):
        shared = await granted(limiter, "k", REQUESTS, 4)
        valkey.kill()

        alone = await granted(limiter, "k", REQUESTS, 10)

        assert (len(shared), len(alone)) == (4, 2)
        # The third was refused.
        assert len(decisions) == 3


async def test_a_redis_that_hangs_delays_one_request_shortly_and_the_others_not(
    valkey: "Valkey",
) -> None:
    clock, many = Clock(), Limits(requests_per_minute=6000)
    async with (
        connect(valkey.url) as redis,
        running(redis, clock=clock, timeout_seconds=TIMEOUT_SECONDS) as limiter,
    ):
        await eventually_shared(limiter, clock)
        with stopped(valkey):
            began_at = time.monotonic()
            await limiter.admit("k", many, 1)
            first_seconds = time.monotonic() - began_at
            for _ in range(100):
                await limiter.admit("k", many, 1)
            all_seconds = time.monotonic() - began_at

    assert TIMEOUT_SECONDS <= first_seconds < 10 * TIMEOUT_SECONDS
    assert all_seconds < first_seconds + 10 * TIMEOUT_SECONDS


async def test_when_redis_hangs_all_that_wait_are_decided_at_once(valkey: "Valkey") -> None:
    clock, count = Clock(), 20 * MAX_BATCH
    async with (
        connect(valkey.url) as redis,
        running(redis, clock=clock, timeout_seconds=TIMEOUT_SECONDS) as limiter,
    ):
        await eventually_shared(limiter, clock)
        with stopped(valkey):
            began_at = time.monotonic()
            asks = (limiter.admit("k", Limits(10**6), 1) for _ in range(count))
            admissions = await asyncio.gather(*asks)
            seconds = time.monotonic() - began_at

    assert not any(admission.is_shared for admission in admissions)
    assert seconds < 0.5 * TIMEOUT_SECONDS * count / MAX_BATCH


async def test_when_redis_comes_back_the_replicas_share_again(valkey: "Valkey") -> None:
    clock = Clock()
    async with connect(valkey.url) as redis, running(redis, clock=clock) as limiter:
        await limiter.admit("k", REQUESTS, 1)
        valkey.kill()
        local = await limiter.admit("k", REQUESTS, 1)
        valkey.start()
        assert not (await limiter.admit("k", REQUESTS, 1)).is_shared

        shared = await eventually_shared(limiter, clock)

        assert not local.is_shared
        assert shared.is_shared
        assert (await limiter.admit("k", REQUESTS, 1)).is_shared


async def test_one_request_tries_whether_redis_is_back_and_the_others_do_not_wait(
    valkey: "Valkey",
) -> None:
    clock = Clock()
    async with (
        connect(valkey.url) as redis,
        running(redis, clock=clock, timeout_seconds=TIMEOUT_SECONDS) as limiter,
    ):
        await eventually_shared(limiter, clock)
        with stopped(valkey):
            await limiter.admit("k", REQUESTS, 1)
            clock.now += RETRY_SECONDS
            tries = asyncio.create_task(limiter.admit("k", REQUESTS, 1))
            await asyncio.sleep(0)

            await limiter.admit("k", REQUESTS, 1)

            assert not tries.done()
            await tries


async def test_what_was_granted_alone_is_not_given_back_to_redis(valkey: "Valkey") -> None:
    clock = Clock()
    async with connect(valkey.url) as redis, running(redis, clock=clock) as limiter:
        valkey.kill()
        alone = await limiter.admit("k", TOKENS, 30)
        valkey.start()
        await eventually_shared(limiter, clock, "other")
        await limiter.admit("k", TOKENS, 50)

        limiter.settle(alone, 0)

        with pytest.raises(RateLimitedError):
            await limiter.admit("k", TOKENS, 30)


async def test_an_answer_that_came_too_late_is_no_answer_to_the_next(valkey: "Valkey") -> None:
    clock = Clock()
    async with (
        connect(valkey.url) as redis,
        running(redis, clock=clock, timeout_seconds=TIMEOUT_SECONDS) as limiter,
    ):
        await eventually_shared(limiter, clock)
        await granted(limiter, "used-up", REQUESTS, 6)
        with stopped(valkey):
            await granted(limiter, "used-up", REQUESTS, 1)

        fresh = await eventually_shared(limiter, clock, "fresh")

        assert fresh.backlog.requests > 0


async def test_a_request_that_left_is_no_harm_to_the_others(valkey: "Valkey") -> None:
    async with connect(valkey.url) as redis, running(redis) as limiter:
        left = asyncio.create_task(limiter.admit("k", REQUESTS, 1))
        stays = asyncio.create_task(limiter.admit("k", REQUESTS, 1))
        await asyncio.sleep(0)
        left.cancel()

        assert (await stays).is_shared


async def test_what_redis_was_not_told_of_a_key_that_has_gone_is_forgotten(
    valkey: "Valkey",
) -> None:
    async with connect(valkey.url) as redis, running(redis) as limiter:
        limiter.settle(await limiter.admit("gone", TOKENS, 1), 60)
        limiter.keep_only(set())
        await limiter.admit("k", TOKENS, 1)

        assert await redis.hget("twofold:{qwen}:limit:gone", "tokens") == b"1.000000000"


async def eventually_shared(limiter: SharedLimiter, clock: Clock, name: str = "k") -> Admission:
    """Ask once a retry until Redis decides; connecting again takes redis-py some attempts."""
    async with asyncio.timeout(20):
        while True:
            clock.now += 60.0
            admission = await limiter.admit(name, REQUESTS, 1)
            if admission.is_shared:
                return admission
            await asyncio.sleep(0.05)


@contextmanager
def stopped(valkey: "Valkey") -> Iterator[None]:
    """Make *valkey* hang: its connections stay open, and nothing is answered."""
    assert valkey._process is not None
    os.kill(valkey._process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(valkey._process.pid, signal.SIGCONT)
