"""A handle of an actor, where Ray's head does not answer at once or not as one likes."""

import asyncio
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    RaySystemError,
    TaskPlacementGroupRemoved,
)

from twofold_engine.errors import EngineError
from twofold_engine.pools.handles import LostWorkerError
from twofold_engine.pools.launching import Made, RayHandle


class Head:
    """Ray's head. It makes an actor once it answers, and remembers which it has ended."""

    def __init__(self) -> None:
        self.answers = threading.Event()
        self.error: Exception | None = None
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.state: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.ended = 0

    def make(self) -> Made:
        assert self.answers.wait(60)
        if self.error is not None:
            raise self.error
        actor = SimpleNamespace(
            start=SimpleNamespace(remote=lambda manager: self.started),
            state=SimpleNamespace(remote=lambda manager: self.state),
        )
        return MadeByHead(actor, SimpleNamespace(ready=lambda: self.ready), self)


class MadeByHead(Made):
    def __init__(self, actor: Any, group: Any, head: Head) -> None:
        super().__init__(actor, group)
        object.__setattr__(self, "head", head)

    def end(self) -> None:
        self.head.ended += 1  # type: ignore[attr-defined]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_place_is_told_before_the_actor_answers() -> None:
    head, placed = Head(), asyncio.Event()
    head.answers.set()
    starting = asyncio.create_task(RayHandle("m", ask=head.make).start(placed.set))
    await asyncio.sleep(0.1)
    assert not placed.is_set()

    head.ready.set_result(None)
    await asyncio.wait_for(placed.wait(), 60)
    assert not starting.done()
    head.started.set_result("node")

    assert await starting == "node"


@pytest.mark.parametrize(
    "error", [RaySystemError("no"), ConnectionError("no"), ValueError("GPUs must be whole")]
)
async def test_what_ray_does_not_take_is_an_engine_error(error: Exception) -> None:
    head = Head()
    head.error = error
    head.answers.set()
    handle = RayHandle("m", ask=head.make)

    with pytest.raises(EngineError, match=str(error)):
        await handle.start(lambda: None)
    await handle.stop(1.0)

    assert head.ended == 0


async def test_an_actor_whose_group_is_removed_is_waited_for_no_longer() -> None:
    head = Head()
    head.answers.set()
    head.ready.set_exception(TaskPlacementGroupRemoved())

    with pytest.raises(EngineError, match="removed"):
        await asyncio.wait_for(RayHandle("m", ask=head.make).start(lambda: None), 60)


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [(ActorUnavailableError("RPC error", None), False), (ActorDiedError(), True)],
)
async def test_an_actor_that_cannot_be_reached_just_now_is_not_lost(
    error: Exception, is_lost: bool
) -> None:
    head = Head()
    head.answers.set()
    handle = RayHandle("m", adopted=head.make())
    head.state.set_exception(error)

    with pytest.raises(EngineError) as raised:
        await handle.state()

    assert isinstance(raised.value, LostWorkerError) is is_lost


@pytest.mark.parametrize("is_given_up", [False, True])
async def test_what_was_asked_for_while_the_head_is_away_is_ended_when_it_has_been_made(
    is_given_up: bool,
) -> None:
    head = Head()
    handle = RayHandle("m", ask=head.make)
    starting = asyncio.create_task(handle.start(lambda: None))
    await asyncio.sleep(0.1)
    starting.cancel()
    stopping = asyncio.create_task(handle.stop(1.0))
    await asyncio.sleep(0.1)
    if is_given_up:
        stopping.cancel()

    head.answers.set()
    await until(lambda: head.ended == 1)

    await asyncio.gather(starting, stopping, return_exceptions=True)
