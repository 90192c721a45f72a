"""The side of a worker: its entry is kept alive."""

import asyncio
import logging

from redis.asyncio import Redis

from twofold_cluster.errors import TwofoldError
from twofold_cluster.membership.entries import REDIS_IS_AWAY, announce, withdraw
from twofold_cluster.worker import Gone, Worker

TTL_SECONDS = 3.0
"""A worker that stops announcing itself is gone after this long."""

ANNOUNCEMENTS_PER_TTL = 3
"""Three tries within the time limit: one lost write does not make a worker vanish."""

MIN_GAP_SECONDS = 0.05
"""Load goes out as it changes, at most this often."""

RETRY_SECONDS = 0.5

_log = logging.getLogger(__name__)


class FencedError(TwofoldError):
    """A newer incarnation of this worker has announced itself: this one must end."""


class Announcer:
    """Keeps one worker's entry alive, and sends it out anew soon after it changes."""

    def __init__(self, redis: "Redis", worker: Worker, *, ttl_seconds: float = TTL_SECONDS) -> None:
        self._redis = redis
        self._worker = worker
        self._ttl_seconds = ttl_seconds
        self._changed = asyncio.Event()
        self._reachable = True
        self._version = 0
        self._delivered_version = -1
        self._delivery = asyncio.Condition()

    @property
    def worker(self) -> Worker:
        return self._worker

    def update(self, worker: Worker) -> None:
        """Announce *worker* from now on; it is the same worker and incarnation."""
        assert worker.incarnation == self._worker.incarnation, (worker, self._worker)
        if worker != self._worker:
            self._worker = worker
            self._version += 1
            self._changed.set()

    async def delivered(self) -> None:
        """Wait until Redis has what was announced last. The caller bounds the wait."""
        version = self._version
        async with self._delivery:
            await self._delivery.wait_for(lambda: self._delivered_version >= version)

    async def run(self) -> None:
        """Announce until cancelled, then withdraw.

        Raises:
            FencedError: a newer incarnation has taken the worker id.
        """
        try:
            while True:
                self._changed.clear()
                interval_seconds = self._ttl_seconds / ANNOUNCEMENTS_PER_TTL
                delay = interval_seconds if await self._announce() else RETRY_SECONDS
                await asyncio.sleep(MIN_GAP_SECONDS)
                try:
                    async with asyncio.timeout(delay - MIN_GAP_SECONDS):
                        await self._changed.wait()
                except TimeoutError:
                    pass
        finally:
            gone = Gone(worker_id=self._worker.worker_id, incarnation=self._worker.incarnation)
            await asyncio.shield(withdraw(self._redis, self._worker.service, gone))

    async def _announce(self) -> bool:
        worker, version = self._worker, self._version
        try:
            accepted = await announce(self._redis, worker, self._ttl_seconds)
        except REDIS_IS_AWAY as error:
            if self._reachable:
                _log.warning("cannot announce", extra={"error": repr(error)})
            self._reachable = False
            return False
        if not self._reachable:
            _log.info("announcing again")
        self._reachable = True
        if not accepted:
            raise FencedError(f"{worker.worker_id}: {worker.incarnation} is not the newest")
        async with self._delivery:
            self._delivered_version = version
            self._delivery.notify_all()
        return True
