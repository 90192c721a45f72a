"""A replica of the router: its placement, driven as the gateway's dispatcher drives it."""

from collections.abc import Callable, Iterable, Sequence

from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Worker
from twofold_router.gateway.dispatcher import TICK_SECONDS
from twofold_router.gateway.suspects import Suspects
from twofold_router.placement import (
    Decision,
    Outcome,
    Placement,
    PlacementRequest,
    PlacementSnapshot,
    PromptUsage,
    Refuse,
)
from twofold_sim.virtual.events import EventQueue

Decide = Callable[[Decision, float], None]


class Router:
    """Does for requests in virtual time what ``Dispatcher`` does for those of a gateway.

    Invariant: the placement knows a waiting request exactly while ``_deciders`` does. Time passes
    for it (``tick``) while it has any request.
    """

    def __init__(self, placement: Placement, events: EventQueue, *, suspect_seconds: float) -> None:
        self._placement = placement
        self._events = events
        self._suspect_seconds = suspect_seconds
        self._suspects = Suspects(suspect_seconds)
        self._workers: dict[WorkerId, Worker] = {}
        self._deciders: dict[str, Decide] = {}
        self._request_count = 0
        """That are waiting or dispatched."""
        self._is_ticking = False

    def follow(self, changed: Sequence[Worker], now: float) -> None:
        """Take *changed* workers as they are now."""
        self._workers.update((worker.worker_id, worker) for worker in changed)
        self._tell(self._placement.workers_changed(self._suspects.mark(changed, now), now), now)

    def forget(self, worker: Worker, now: float) -> None:
        """Forget *worker*, unless it lives again."""
        known = self._workers.get(worker.worker_id)
        if known is not None and known.incarnation == worker.incarnation:
            del self._workers[worker.worker_id]
            self._tell(self._placement.workers_gone([worker.worker_id], now), now)

    def suspect(self, worker: Worker, now: float) -> None:
        """Give *worker* nothing new for a while: it cannot be reached."""
        known = self._workers.get(worker.worker_id)
        if known is None or known.incarnation != worker.incarnation:
            return
        self._suspects.add(known, now)
        self.follow([known], now)
        self._events.add(now + self._suspect_seconds + 0.01, self._trust_again, known.worker_id)

    def submit(self, request: PlacementRequest, decide: Decide, now: float) -> None:
        """Have *request* placed; *decide* is told once, unless it is withdrawn before."""
        self._deciders[request.request_id] = decide
        self._request_count += 1
        if not self._is_ticking:
            self._is_ticking = True
            self._events.add(now + TICK_SECONDS, self._tick)
        self._tell(self._placement.submit(request, now), now)

    def withdraw(self, request_id: str, now: float) -> None:
        """Forget a request that nothing was decided about."""
        del self._deciders[request_id]
        self._request_count -= 1
        self._tell(self._placement.withdraw(request_id, now), now)

    def prefilled(self, request_id: str, usage: PromptUsage | None, now: float) -> None:
        """Take note that the prompt of a dispatched request is computed."""
        self._tell(self._placement.prefilled(request_id, usage, now), now)

    def move_decode(self, request_id: str, avoid: frozenset[WorkerId], now: float) -> Worker | None:
        """Move a dispatched request to another decode worker; None if there is none."""
        worker, decisions = self._placement.move_decode(request_id, avoid, now)
        self._tell(decisions, now)
        return worker

    def finished(self, request_id: str, outcome: Outcome | None, now: float) -> None:
        """Take back all that a dispatched request holds."""
        self._request_count -= 1
        self._tell(self._placement.finished(request_id, outcome, now), now)

    def snapshot(self) -> PlacementSnapshot:
        return self._placement.snapshot()

    def _trust_again(self, worker_id: WorkerId, now: float) -> None:
        known = self._workers.get(worker_id)
        if known is not None:
            self.follow([known], now)

    def _tick(self, now: float) -> None:
        self._tell(self._placement.tick(now), now)
        self._is_ticking = self._request_count > 0
        if self._is_ticking:
            self._events.add(now + TICK_SECONDS, self._tick)

    def _tell(self, decisions: Iterable[Decision], now: float) -> None:
        for decision in decisions:
            decide = self._deciders.pop(decision.request_id)
            if isinstance(decision, Refuse):
                self._request_count -= 1
            decide(decision, now)
