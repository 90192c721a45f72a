"""A follower for each worker that offers KV events, as the workers come and go."""

import asyncio
import logging
from collections.abc import Iterable

import zmq
import zmq.asyncio

from twofold_cluster.identity import WorkerId
from twofold_cluster.kv_events.following import Follower, Source, source_of
from twofold_cluster.worker import Worker
from twofold_router.kv_events.telling import OnChange, OnHappening, Telling

_log = logging.getLogger(__name__)


class Followers:
    """Owns the tasks and the sockets. A worker has one follower, in its last known incarnation."""

    def __init__(self, on_change: OnChange, on_happening: OnHappening) -> None:
        self._on_change = on_change
        self._on_happening = on_happening
        self._wanted: dict[WorkerId, Source] = {}
        self._tasks: dict[WorkerId, asyncio.Task[None]] = {}
        self._changed: set[WorkerId] = set()
        self._has_changed = asyncio.Event()

    def follow(self, changed: Iterable[Worker], gone: Iterable[Worker]) -> None:
        """Follow *changed* workers as they are now, and no longer those that are *gone*."""
        for worker in gone:
            self._want(worker.worker_id, None)
        for worker in changed:
            self._want(worker.worker_id, source_of(worker))

    async def run(self) -> None:
        """Follow the workers until cancelled."""
        context = zmq.asyncio.Context()
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    await self._has_changed.wait()
                    self._has_changed.clear()
                    for worker_id in self._changed:
                        self._settle(worker_id, context, tasks)
                    self._changed.clear()
        finally:
            context.destroy(linger=0)

    def _want(self, worker_id: WorkerId, source: Source | None) -> None:
        if source == self._wanted.get(worker_id):
            return
        if source is None:
            del self._wanted[worker_id]
        else:
            self._wanted[worker_id] = source
        self._changed.add(worker_id)
        self._has_changed.set()

    def _settle(
        self, worker_id: WorkerId, context: zmq.asyncio.Context, tasks: asyncio.TaskGroup
    ) -> None:
        """Make the task of a worker what is wanted for it."""
        source = self._wanted.get(worker_id)
        # Also for one that went and came back: what is known of its cache went with it.
        if (task := self._tasks.pop(worker_id, None)) is not None:
            task.cancel()
        if source is not None:
            life = (source.worker_id, source.incarnation)
            telling = Telling(life, self._on_change, self._on_happening)
            follower = Follower(context, source, telling.hear, telling.replay)
            self._tasks[worker_id] = tasks.create_task(_run(follower, source))


async def _run(follower: Follower, source: Source) -> None:
    try:
        await follower.run()
    except zmq.ZMQError as error:
        extra = {"worker": source.worker_id, "error": str(error)}
        _log.warning("cannot follow the KV events of a worker", extra=extra)
