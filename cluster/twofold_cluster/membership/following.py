"""The side of a router: the workers of a service, as far as they are known."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.membership.announcing import RETRY_SECONDS, TTL_SECONDS
from twofold_cluster.membership.entries import (
    FENCE_SECONDS,
    REDIS_IS_AWAY,
    awaited,
    channel,
    decode_message,
    read_workers,
)
from twofold_cluster.worker import Gone, Worker

SNAPSHOT_INTERVAL_SECONDS = 0.5
"""How often a follower reads everything again: a published message may be lost, a read is not."""

_log = logging.getLogger(__name__)


OnChange = Callable[[Sequence[Worker], Sequence[Worker]], None]
"""Told of the workers that have joined or are not as they were, and of those that are gone."""


class Roster:
    """The workers of one service, as a follower knows them.

    Invariant: at most one incarnation of a worker is in it, the newest that was seen. One that has
    gone is remembered as long as Redis fences it.
    """

    def __init__(
        self,
        redis: "Redis",
        service: str,
        *,
        on_change: OnChange = lambda changed, gone: None,
        clock: Callable[[], float] = time.monotonic,
        ttl_seconds: float = TTL_SECONDS,
    ) -> None:
        self._redis = redis
        self._service = service
        self._on_change = on_change
        self._clock = clock
        self._ttl_seconds = ttl_seconds
        self._workers: dict[WorkerId, Worker] = {}
        self._newest: dict[WorkerId, Incarnation] = {}
        self._heard_at: dict[WorkerId, float] = {}
        self._grace_until = 0.0
        self._stale = True

    @property
    def workers(self) -> Mapping[WorkerId, Worker]:
        return self._workers

    @property
    def stale(self) -> bool:
        """True while Redis cannot be read: what is known may be old."""
        return self._stale

    async def run(self) -> None:
        """Follow until cancelled, through any number of reconnections."""
        while True:
            error = await self._follow()
            if not self._stale:
                _log.warning("membership is stale", extra={"error": repr(error)})
            self._stale = True
            self._grace_until = self._clock() + RETRY_SECONDS + self._ttl_seconds
            await asyncio.sleep(RETRY_SECONDS)

    async def _follow(self) -> Exception:
        """Follow over one connection, and return what broke it.

        The tasks do not raise what breaks them: in Python 3.11 a TaskGroup that is cancelled as a
        task of it fails raises the failure alone, and the cancellation is lost.
        """
        broken: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        try:
            async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                await awaited(pubsub.subscribe(channel(self._service)))
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(_until_broken(self._read_regularly(), broken)),
                        group.create_task(_until_broken(self._listen(pubsub), broken)),
                    ]
                    error = await broken
                    for task in tasks:
                        task.cancel()
        except REDIS_IS_AWAY as failure:
            return failure
        return error

    async def _read_regularly(self) -> None:
        while True:
            began_at = self._clock()
            workers = await read_workers(self._redis, self._service)
            if self._stale:
                _log.info("membership is fresh", extra={"workers": len(workers)})
            self._stale = False
            self._replace(workers, began_at)
            await asyncio.sleep(SNAPSHOT_INTERVAL_SECONDS)

    async def _listen(self, pubsub: Any) -> None:
        while True:
            # The timeout only bounds one wait; a quiet channel is normal.
            message = await pubsub.get_message(timeout=1.0)
            known = None if message is None else decode_message(message["data"])
            if known is not None:
                self._hear(known)

    def _hear(self, message: Worker | Gone) -> None:
        if self._is_fenced(message):
            return
        self._newest[message.worker_id] = message.incarnation
        self._heard_at[message.worker_id] = self._clock()
        before = self._workers.get(message.worker_id)
        if isinstance(message, Gone):
            if before is not None:
                del self._workers[message.worker_id]
                self._on_change((), (before,))
        elif before != message:
            self._workers[message.worker_id] = message
            self._on_change((message,), ())

    def _replace(self, workers: list[Worker], began_at: float) -> None:
        # What was heard while the entries were read is newer than they are.
        changed = [
            worker
            for worker in workers
            if self._heard_at.get(worker.worker_id, -math.inf) < began_at and self._is_news(worker)
        ]
        for worker in changed:
            self._workers[worker.worker_id] = worker
        gone: list[Worker] = []
        if self._clock() >= self._grace_until:
            gone = [
                self._workers[worker_id]
                for worker_id in self._workers.keys() - {worker.worker_id for worker in workers}
                if self._heard_at[worker_id] < began_at  # else it joined while they were read
            ]
        for worker in gone:
            del self._workers[worker.worker_id]
        self._forget_the_unfenced()
        if changed or gone:
            self._on_change(changed, gone)

    def _is_fenced(self, message: Worker | Gone) -> bool:
        known = self._newest.get(message.worker_id)
        if known is None or known <= message.incarnation:
            return False
        return message.worker_id in self._workers or self._is_remembered(message.worker_id)

    def _is_remembered(self, worker_id: WorkerId) -> bool:
        return self._clock() - self._heard_at[worker_id] < FENCE_SECONDS

    def _forget_the_unfenced(self) -> None:
        """Rollouts and scalings bring new names as long as the follower lives."""
        for worker_id in self._newest.keys() - self._workers.keys():
            if not self._is_remembered(worker_id):
                del self._newest[worker_id], self._heard_at[worker_id]

    def _is_news(self, worker: Worker) -> bool:
        """Note that *worker* was read; tell whether anything about it is new."""
        if self._is_fenced(worker):
            return False
        self._newest[worker.worker_id] = worker.incarnation
        self._heard_at[worker.worker_id] = self._clock()
        return self._workers.get(worker.worker_id) != worker


async def _until_broken(
    following: Coroutine[Any, Any, None], broken: asyncio.Future[Exception]
) -> None:
    try:
        await following
    except REDIS_IS_AWAY as error:
        if not broken.done():
            broken.set_result(error)
