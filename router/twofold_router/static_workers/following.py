"""The workers given on the command line, followed by asking them."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

from twofold_cluster.identity import Incarnation, WorkerId, new_incarnation
from twofold_cluster.worker import Worker
from twofold_router.static_workers.errors import ProbeFailedError
from twofold_router.static_workers.flags import GivenWorker
from twofold_router.static_workers.probing import Fetch, probe
from twofold_router.static_workers.watching import Watch

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    probe_interval_seconds: float = 2.0
    """From the beginning of one probe of a worker to that of the next: how old its load may be."""
    probe_timeout_seconds: float = 5.0
    """Of a whole probe. vLLM's server answers late while it tokenizes a long prompt."""
    failures_to_gone: int = 3
    """In a row; a worker that refuses the connection is gone after two."""


class StaticWorkers:
    """The given workers that serve now, for a router: as a ``Roster`` has them from Redis.

    Each worker is asked by a task of its own, so that one that hangs delays nobody else.
    """

    def __init__(
        self,
        given: Sequence[GivenWorker],
        fetch: Fetch,
        *,
        service: str,
        on_change: Callable[[Sequence[Worker], Sequence[Worker]], None] = lambda changed, gone: (
            None
        ),
        failing: MutableMapping[WorkerId, str] | None = None,
        settings: ProbeSettings | None = None,
        incarnate: Callable[[], Incarnation] = new_incarnation,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """*failing* is kept as what was wrong at the last probe, of those that failed it."""
        self._failing = {} if failing is None else failing
        self._fetch = fetch
        self._on_change = on_change
        self._settings = settings or ProbeSettings()
        self._clock = clock
        self._sleep = sleep
        self._workers: dict[WorkerId, Worker] = {}
        self._watches = [
            Watch(
                worker,
                service,
                failures_to_gone=self._settings.failures_to_gone,
                incarnate=incarnate,
            )
            for worker in given
        ]

    @property
    def workers(self) -> Mapping[WorkerId, Worker]:
        return self._workers

    @property
    def stale(self) -> bool:
        """False: nobody stands between the router and the workers."""
        return False

    async def run(self) -> None:
        """Follow all workers until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for watch in self._watches:
                tasks.create_task(self._follow(watch))

    async def _follow(self, watch: Watch) -> None:
        while True:
            next_at = self._clock() + self._settings.probe_interval_seconds
            await self._probe(watch)
            await self._sleep(max(0.0, next_at - self._clock()))

    async def _probe(self, watch: Watch) -> None:
        before = watch.worker
        try:
            async with asyncio.timeout(self._settings.probe_timeout_seconds):
                reading = await probe(self._fetch, watch.given.origin)
        except (ProbeFailedError, TimeoutError) as error:
            self._log_once(watch, error)
            self._failing[watch.given.worker_id] = str(error) or repr(error)
            watch.failed(error)
        else:
            self._failing.pop(watch.given.worker_id, None)
            watch.answered(reading)
        self._tell(before, watch.worker)

    def _tell(self, before: Worker | None, now: Worker | None) -> None:
        if now is not None and now != before:
            if before is None or before.incarnation != now.incarnation:
                _log.info("worker serves", extra={"worker": now.worker_id, "model": now.model})
            self._workers[now.worker_id] = now
            self._on_change((now,), ())
        elif before is not None and now is None:
            _log.warning("worker is gone", extra={"worker": before.worker_id})
            del self._workers[before.worker_id]
            self._on_change((), (before,))

    def _log_once(self, watch: Watch, error: Exception) -> None:
        """Say what is wrong with a worker once, not at each probe until it is right."""
        if repr(error) != repr(watch.error):
            about = {"worker": watch.given.worker_id, "error": repr(error)}
            _log.warning("worker does not answer as it should", extra=about)
