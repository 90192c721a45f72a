"""Draining a worker whose answers fail now and then, over real sockets."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from twofold_engine import steering
from twofold_engine.errors import EngineError
from twofold_engine.paths import PREFIX

BUSY = "busy"
IDLE = "idle"
FAILS = "fails"


def answered(answer: str) -> web.Response:
    return web.json_response({"busy": answer == BUSY}, status=500 if answer == FAILS else 200)


@asynccontextmanager
async def a_worker(drain: Iterator[str], polls: Iterator[str]) -> AsyncIterator[str]:
    """Answer as these say, one after the other."""

    async def drained(_: web.Request) -> web.Response:
        return answered(next(drain))

    async def polled(_: web.Request) -> web.Response:
        return answered(next(polls))

    app = web.Application()
    app.router.add_post(f"{PREFIX}/drain", drained)
    app.router.add_get(f"{PREFIX}/busy", polled)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def test_a_drain_bears_answers_that_fail_as_long_as_others_come_between() -> None:
    polls = iter([BUSY, FAILS, FAILS, BUSY, FAILS, FAILS, BUSY, IDLE])
    async with a_worker(iter([FAILS, IDLE]), polls) as address:
        await steering.drain(address)

    assert not list(polls)


async def test_a_drain_ends_where_nobody_answers_any_more() -> None:
    polls = iter([BUSY, *[FAILS] * steering.DRAIN_ATTEMPT_COUNT, IDLE])
    async with a_worker(iter([IDLE]), polls) as address:
        with pytest.raises(EngineError):
            await steering.drain(address)

    assert list(polls) == [IDLE]
