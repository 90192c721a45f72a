"""Work that nobody waits for ends with the block that owns it."""

import asyncio
import inspect
import logging

import pytest

from twofold_router.gateway.background import open_background


async def test_work_is_finished_before_the_block_ends() -> None:
    done: list[int] = []

    async def work() -> None:
        await asyncio.sleep(0)
        done.append(1)

    async with open_background(5.0) as background:
        background.start(work())

    assert done == [1]


async def test_work_that_does_not_end_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    async with open_background(0.0) as background:
        task = background.start(asyncio.Event().wait())

    assert task.cancelled()
    assert "background work cut off" in caplog.messages


async def test_work_that_fails_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("a bug")

    async def succeed() -> int:
        await asyncio.sleep(0)
        return 7

    with caplog.at_level(logging.CRITICAL):
        async with open_background(5.0) as background:
            failed = background.start(fail())
            other = background.start(succeed())

    assert (failed.result(), other.result()) == (None, 7)
    assert background.failure_count == 1


async def test_endless_work_ends_after_all_other() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    async def work() -> int:
        for _ in range(5):
            await asyncio.sleep(0)
        return ticks

    async with open_background(5.0) as background:
        background.watch(tick())
        last = background.start(work())

    assert last.result() is not None
    assert ticks >= (last.result() or 0) > 3


async def test_work_that_never_began_leaves_no_coroutine_behind() -> None:
    async def work() -> None: ...

    never_begun = work()
    async with open_background(0.0) as background:
        background.watch(never_begun)

    assert inspect.getcoroutinestate(never_begun) == inspect.CORO_CLOSED
