"""Work that goes on when nobody waits for it any more."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Background:
    """The gateway's own tasks. None of them may end the others, whatever happens in it."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._group = tasks
        self._tasks: set[asyncio.Task[Any]] = set()
        self._endless: set[asyncio.Task[Any]] = set()
        self.failure_count = 0

    def start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T | None]":
        """Begin *work*. The task's result is None if it failed, which is a bug and logged."""
        task = self._create(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def watch(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Do *work*, which may be endless, until everything else was drained."""
        task = self._create(work)
        self._endless.add(task)
        task.add_done_callback(self._endless.discard)
        return task

    async def drain(self, timeout_seconds: float) -> None:
        """Wait for all work, and cancel what is left after *timeout_seconds*."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        except TimeoutError:
            _log.warning("background work cut off", extra={"tasks": len(self._tasks)})
            for task in self._tasks:
                task.cancel()
        finally:
            for task in tuple(self._endless):
                task.cancel()

    def _create(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T | None]":
        task = self._group.create_task(self._guard(work))
        # A task that is cancelled before its first step never comes to its work.
        task.add_done_callback(lambda _: work.close())
        return task

    async def _guard(self, work: Coroutine[Any, Any, T]) -> T | None:
        try:
            return await work
        except Exception:  # noqa: BLE001 - an edge loop: logged, counted, and the others go on
            self.failure_count += 1
            _log.exception("background work failed")
            return None


@asynccontextmanager
async def open_background(drain_timeout_seconds: float) -> AsyncIterator[Background]:
    """Own background work, and see it end."""
    async with asyncio.TaskGroup() as tasks:
        background = Background(tasks)
        try:
            yield background
        finally:
            await background.drain(drain_timeout_seconds)
