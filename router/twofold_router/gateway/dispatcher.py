"""The placement of one process: who there is, who of them is suspect, and who waits for it."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Worker
from twofold_router.gateway.catalogue import Catalogue
from twofold_router.gateway.partners import partner_of
from twofold_router.gateway.suspects import Suspects
from twofold_router.placement import (
    BlocksChange,
    Decision,
    Outcome,
    Placement,
    PlacementRequest,
    PlacementSnapshot,
    PromptUsage,
)
from twofold_router.placement.accounts import Life

TICK_SECONDS = 0.05
"""A tenth of what a client notices; a tick costs microseconds."""


@dataclass(frozen=True, slots=True)
class DispatcherSnapshot:
    """What the dispatcher knows at one moment."""

    placement: PlacementSnapshot
    workers: tuple[Worker, ...]


class Dispatcher:
    """Implements Desk on a placement of its own.

    Invariant: the placement knows a waiting request exactly while ``_deciders`` does.
    """

    def __init__(
        self,
        placement: Placement,
        *,
        suspect_seconds: float = 1.0,
        keeps_names: bool = False,
        clock: Callable[[], float] = time.monotonic,
        observe: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        """*observe* is told how many seconds of computing each placement takes. *keeps_names*:
        those of workers that are gone, which come back, stay known."""
        self._is_stale: Callable[[], bool] = lambda: False
        self._observe = observe
        self._placement = placement
        self._clock = clock
        self._suspect_seconds = suspect_seconds
        self._suspects = Suspects(suspect_seconds)
        self._workers: dict[WorkerId, Worker] = {}
        self._catalogue = Catalogue(keeps_gone=keeps_names)
        self._deciders: dict[str, Callable[[Decision], None]] = {}
        self._serial = itertools.count(1)

    @property
    def workers(self) -> Sequence[Worker]:
        return tuple(self._workers.values())

    @property
    def models(self) -> Mapping[str, str]:
        return self._catalogue.models

    @property
    def is_stale(self) -> bool:
        return self._is_stale()

    def stale_if(self, is_stale: Callable[[], bool]) -> None:
        """Ask *is_stale* from now on whether the workers that are known may be old."""
        self._is_stale = is_stale

    def now(self) -> float:
        return self._clock()

    async def run(self) -> None:
        """Let time pass for the placement, until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._tell(self._placement.tick(self._clock()))

    # Workers

    def follow(self, changed: Sequence[Worker], gone: Sequence[Worker]) -> None:
        """Take *changed* workers as they are now, and forget those that are *gone*."""
        now = self._clock()
        self._workers.update((worker.worker_id, worker) for worker in changed)
        self._catalogue.follow(changed, [worker.worker_id for worker in gone])
        for worker in gone:
            self._workers.pop(worker.worker_id, None)
        if gone:
            self._tell(self._placement.workers_gone([w.worker_id for w in gone], now))
        if changed:
            marked = self._suspects.mark(changed, now)
            self._tell(self._placement.workers_changed(marked, now))

    def blocks_changed(self, life: Life, change: BlocksChange) -> None:
        """Take in what an engine says of its cache."""
        self._placement.blocks_changed(*life, change)

    def suspect(self, worker: Worker) -> None:
        known = self._workers.get(worker.worker_id)
        if known is None or known.incarnation != worker.incarnation:
            return
        self._suspects.add(known, self._clock())
        self.follow([known], [])
        # A little later than the suspicion ends, since timers may be early by their resolution.
        loop = asyncio.get_running_loop()
        loop.call_later(self._suspect_seconds + 0.01, self._trust_again, worker.worker_id)

    def is_suspect(self, worker: Worker) -> bool:
        return self._suspects.has(worker, self._clock())

    def partner_of(self, prefill: Worker, name: str, avoid: frozenset[WorkerId]) -> Worker | None:
        marked = self._suspects.mark(self._workers.values(), self._clock())
        return partner_of(marked, prefill, name, avoid)

    # Requests

    def unique_id(self) -> str:
        return str(next(self._serial))

    def submit(self, request: PlacementRequest, decide: Callable[[Decision], None]) -> None:
        self._deciders[request.request_id] = decide
        began_at = perf_counter()
        decisions = self._placement.submit(request, self._clock())
        self._observe(perf_counter() - began_at)
        self._tell(decisions)

    def cancel(self, request_id: str) -> None:
        del self._deciders[request_id]
        self._tell(self._placement.withdraw(request_id, self._clock()))

    def prefilled(self, request_id: str, usage: PromptUsage | None) -> None:
        self._tell(self._placement.prefilled(request_id, usage, self._clock()))

    async def move_decode(self, request_id: str, avoid: frozenset[WorkerId]) -> Worker | None:
        return self.move_decode_now(request_id, avoid)

    def move_decode_now(self, request_id: str, avoid: frozenset[WorkerId]) -> Worker | None:
        """Do as ``move_decode``."""
        worker, decisions = self._placement.move_decode(request_id, avoid, self._clock())
        self._tell(decisions)
        return worker

    def finished(self, request_id: str, outcome: Outcome | None) -> None:
        self._tell(self._placement.finished(request_id, outcome, self._clock()))

    def snapshot(self) -> DispatcherSnapshot:
        return DispatcherSnapshot(self._placement.snapshot(), tuple(self._workers.values()))

    def _trust_again(self, worker_id: WorkerId) -> None:
        known = self._workers.get(worker_id)
        if known is not None:
            self.follow([known], [])

    def _tell(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            self._deciders.pop(decision.request_id)(decision)
