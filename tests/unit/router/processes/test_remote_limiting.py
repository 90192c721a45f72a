"""Limits that another process counts."""

import asyncio

import msgspec
import pytest

from twofold_cluster.errors import Fault, RequestError
from twofold_router.access import Admission, Limits, LocalLimiter, RateLimitedError
from twofold_router.access.buckets import Backlog
from twofold_router.processes.link import decoder_of
from twofold_router.processes.messages import Admit, Admitted, Denied, Message, Settle
from twofold_router.processes.remote_limiting import RemoteLimiter

LIMITS = Limits(requests_per_minute=2, tokens_per_minute=1000)


async def ask(limiter: RemoteLimiter) -> "asyncio.Task[Admission]":
    task = asyncio.create_task(limiter.admit("key", LIMITS, 10))
    await asyncio.sleep(0)
    return task


def hear(limiter: RemoteLimiter, message: Message) -> None:
    handlers = limiter.handlers()
    arrived = decoder_of(handlers)(msgspec.msgpack.encode(message))
    handlers[type(arrived)](arrived)


async def test_each_request_has_its_own_answer() -> None:
    sent: list[Message] = []
    limiter = RemoteLimiter(sent.append)
    one, two = await ask(limiter), await ask(limiter)
    first, second = (each for each in sent if isinstance(each, Admit))
    admission = Admission("key", LIMITS, 10, Backlog(30.0, 0.6))

    hear(limiter, Admitted(second.question, admission))
    hear(limiter, Denied(first.question, "slowly", 7, []))

    assert await two == admission
    with pytest.raises(RateLimitedError, match="slowly"):
        await one
    assert (first.name, first.limits, first.tokens) == ("key", LIMITS, 10)


async def test_a_denial_arrives_as_it_was_raised() -> None:
    local = LocalLimiter(clock=lambda: 0.0)
    for _ in range(2):
        await local.admit("key", LIMITS, 10)
    with pytest.raises(RateLimitedError) as raised:
        await local.admit("key", LIMITS, 10)
    wanted = raised.value
    sent: list[Message] = []
    limiter = RemoteLimiter(sent.append)
    task = await ask(limiter)

    hear(limiter, Denied(1, wanted.message, wanted.retry_after_seconds, wanted.headers))

    with pytest.raises(RateLimitedError) as arrived:
        await task
    told = arrived.value
    assert told.fault is wanted.fault
    assert told.body() == wanted.body()
    assert (told.headers, told.retry_after_seconds) == (wanted.headers, wanted.retry_after_seconds)


async def test_what_was_used_is_told() -> None:
    sent: list[Message] = []
    admission = Admission("key", LIMITS, 10, Backlog())

    RemoteLimiter(sent.append).settle(admission, 25)

    assert sent == [Settle(admission, 25)]


async def test_without_a_placement_process_nobody_is_let_in() -> None:
    limiter = RemoteLimiter(lambda message: None)
    task = await ask(limiter)

    limiter.lose()

    for attempt in (task, limiter.admit("key", LIMITS, 1)):
        with pytest.raises(RequestError) as raised:
            await attempt
        assert raised.value.fault is Fault.DRAINING
