"""Who there is, who of them is suspect, and the tickets with which requests are placed on them."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Worker, WorkerState
from twofold_router.gateway.suspects import Suspects
from twofold_router.gateway.tickets import Desk, Ticket
from twofold_router.placement import Placement, PlacementRequest, PlacementSnapshot
from twofold_router.placement.candidates import party_of


@dataclass(frozen=True, slots=True)
class DispatcherSnapshot:
    """What the dispatcher knows at one moment."""

    placement: PlacementSnapshot
    workers: tuple[Worker, ...]


class Dispatcher:
    """Keeps the placement's workers as the membership and our own failures say."""

    def __init__(
        self,
        placement: Placement,
        *,
        suspect_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._desk = Desk(placement, clock)
        self._clock = clock
        self._suspect_seconds = suspect_seconds
        self._suspects = Suspects(suspect_seconds)
        self._workers: tuple[Worker, ...] = ()

    @property
    def workers(self) -> tuple[Worker, ...]:
        return self._workers

    def now(self) -> float:
        """Return seconds on the clock that all times of a request are of."""
        return self._clock()

    def follow(self, workers: Mapping[WorkerId, Worker]) -> None:
        """Take *workers* as all there are now."""
        self._workers = tuple(workers.values())
        self._set_workers()

    def suspect(self, worker: Worker) -> None:
        """Give *worker* nothing new for a while: it cannot be reached."""
        self._suspects.add(worker, self._clock())
        self._set_workers()
        # A little later than the suspicion ends, since timers may be early by their resolution.
        asyncio.get_running_loop().call_later(self._suspect_seconds + 0.01, self._set_workers)

    def ticket(self, request: PlacementRequest) -> Ticket:
        """Make the ticket with which *request* is placed; it is a context manager."""
        return Ticket(self._desk, request)

    def partner_of(self, prefill: Worker, avoid: frozenset[WorkerId]) -> Worker | None:
        """Return some decode worker that can read, and so free, the blocks of *prefill*."""
        excluded = avoid | {prefill.worker_id}
        for worker in self._suspects.mark(self._workers, self._clock()):
            is_able = worker.role.decodes and worker.state is WorkerState.READY
            if (
                is_able
                and worker.worker_id not in excluded
                and party_of(worker) == party_of(prefill)
            ):
                return worker
        return None

    def snapshot(self) -> DispatcherSnapshot:
        return DispatcherSnapshot(self._desk.snapshot(), self._workers)

    def _set_workers(self) -> None:
        self._desk.set_workers(self._suspects.mark(self._workers, self._clock()))
