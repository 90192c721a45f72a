"""A request's hold on the placement: taken and given back here, and nowhere else."""

import asyncio
import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace

from twofold_cluster.errors import RequestError
from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Worker
from twofold_router.placement import (
    Decision,
    Dispatch,
    Placement,
    PlacementRequest,
    PlacementSnapshot,
    Reason,
)


class Desk:
    """Owns the placement; tells it events, and each ticket the decision about its request.

    Invariant: the placement knows a request only while its ticket is in ``_tickets``.
    """

    def __init__(self, placement: Placement, clock: Callable[[], float]) -> None:
        self._placement = placement
        self._clock = clock
        self._tickets: dict[str, Ticket] = {}
        self._serial = itertools.count()

    def unique_id(self, request_id: str) -> str:
        """Tell apart two requests that carry the same id at the same time: clients choose them."""
        return f"{request_id}/{next(self._serial)}"

    def set_workers(self, workers: Iterable[Worker]) -> None:
        self._tell(self._placement.set_workers(workers, self._clock()))

    def submit(self, ticket: "Ticket") -> None:
        self._tickets[ticket.request.request_id] = ticket
        self._tell(self._placement.submit(ticket.request, self._clock()))

    def prefilled(self, request_id: str) -> None:
        self._tell(self._placement.prefilled(request_id, self._clock()))

    def move_decode(self, request_id: str, avoid: frozenset[WorkerId]) -> Worker | None:
        return self._placement.move_decode(request_id, avoid, self._clock())

    def finished(self, request_id: str) -> None:
        del self._tickets[request_id]
        self._tell(self._placement.finished(request_id, self._clock()))

    def refused(self, request_id: str) -> None:
        del self._tickets[request_id]

    def stop_waiting(self, request: PlacementRequest) -> None:
        now = self._clock()
        if request.deadline_at <= now:
            self._tell(self._placement.expire(now))
        else:
            self._tell(self._placement.withdraw(request.request_id, now))
        del self._tickets[request.request_id]

    def snapshot(self) -> PlacementSnapshot:
        return self._placement.snapshot()

    def _tell(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            self._tickets[decision.request_id].decide(decision)


class Ticket:
    """One request's place, and the only way to take or give one back.

    As a context manager it is held until its end, and by ``hold_for`` until a task is done; what
    the request has in the placement is given back when the last of them lets go.
    """

    def __init__(self, desk: Desk, request: PlacementRequest) -> None:
        self.request = replace(request, request_id=desk.unique_id(request.request_id))
        self._desk = desk
        self._decision: asyncio.Future[Decision] | None = None
        self._holders = 0

    def __enter__(self) -> "Ticket":
        self._holders += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._holders -= 1
        if self._holders == 0:
            self._give_back()

    def hold_for(self, task: "asyncio.Task[object]") -> None:
        """Keep the place until *task* is done, though the client may leave before."""
        self._holders += 1
        task.add_done_callback(self.__exit__)

    async def place(self) -> Dispatch:
        """Wait for the decision about the request.

        Raises:
            RequestError: it is refused.
        """
        assert self._holders > 0, self.request.request_id
        assert self._decision is None, self.request.request_id
        self._decision = asyncio.get_running_loop().create_future()
        self._desk.submit(self)
        # Shielded because a decision may come while the waiting is cancelled, and must be kept.
        decision = await asyncio.shield(self._decision)
        if isinstance(decision, Dispatch):
            return decision
        raise RequestError(
            decision.fault, decision.message, retry_after_seconds=decision.retry_after_seconds
        )

    async def place_again(
        self, cause: Reason, avoid: frozenset[WorkerId], *, separable: bool
    ) -> Dispatch:
        """Give the place back, and wait for another outside *avoid*.

        Raises:
            RequestError: there is none.
        """
        self._give_back()
        self.request = replace(self.request, cause=cause, avoid=avoid, separable=separable)
        return await self.place()

    def prefilled(self) -> None:
        """Take note that leg 1 is over."""
        self._desk.prefilled(self.request.request_id)

    def move_decode(self, avoid: frozenset[WorkerId]) -> Worker | None:
        """Take a place at another decode worker, None if there is none outside *avoid*."""
        return self._desk.move_decode(self.request.request_id, avoid)

    def decide(self, decision: Decision) -> None:
        """Called once by the desk for each time that the request was placed."""
        assert self._decision is not None, decision
        self._decision.set_result(decision)

    def _give_back(self) -> None:
        decision = self._decision
        if decision is None:
            return
        if not decision.done():
            self._desk.stop_waiting(self.request)
        elif isinstance(decision.result(), Dispatch):
            self._desk.finished(self.request.request_id)
        else:
            self._desk.refused(self.request.request_id)
        self._decision = None
