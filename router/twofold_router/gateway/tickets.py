"""A request's hold on the placement: taken and given back here, and nowhere else."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from twofold_cluster.errors import RequestError
from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Worker
from twofold_router.placement import (
    Decision,
    Dispatch,
    Outcome,
    PlacementRequest,
    PromptUsage,
    Reason,
)


class Desk(Protocol):
    """Where requests are placed, in this process or in another one of the same router."""

    @property
    def workers(self) -> Sequence[Worker]:
        """Return all workers that are known, whatever their state."""
        ...

    @property
    def models(self) -> Mapping[str, str]:
        """Return by each name that clients may send, in order, the model behind it: itself, or what
        it adapts."""
        ...

    @property
    def is_stale(self) -> bool:
        """Return True while the membership cannot be followed."""
        ...

    def now(self) -> float:
        """Return seconds on the clock that all times of a request are of."""
        ...

    def unique_id(self) -> str:
        """Make an id for a request in the placement. Its own may be another request's as well:
        clients choose them."""
        ...

    def submit(self, request: PlacementRequest, decide: Callable[[Decision], None]) -> None:
        """Have *request* placed; *decide* is called once, perhaps before this returns, unless the
        request is cancelled first."""
        ...

    def cancel(self, request_id: str) -> None:
        """Forget a request that *decide* was not called for."""
        ...

    def prefilled(self, request_id: str, usage: PromptUsage | None) -> None:
        """Take note that the prompt of a dispatched request is computed."""
        ...

    async def move_decode(self, request_id: str, avoid: frozenset[WorkerId]) -> Worker | None:
        """Move a dispatched request to another decode worker; None if there is none."""
        ...

    def finished(self, request_id: str, outcome: Outcome | None) -> None:
        """Take back all that a dispatched request holds."""
        ...

    def suspect(self, worker: Worker) -> None:
        """Give *worker* nothing new for a while: it cannot be reached, or hangs."""
        ...

    def is_suspect(self, worker: Worker) -> bool:
        """Return True while *worker* is to get nothing new."""
        ...

    def partner_of(self, prefill: Worker, name: str, avoid: frozenset[WorkerId]) -> Worker | None:
        """Return some decode worker that can read, and so free, what *prefill* has computed for
        *name*."""
        ...


class Ticket:
    """One request's place, and the only way to take or give one back.

    As a context manager it is held until its end, and by ``hold_for`` until a task is done; what
    the request has in the placement is given back when the last of them lets go.
    """

    __slots__ = ("_decision", "_desk", "_holders", "_is_placed", "_waiter", "outcome", "request")

    def __init__(self, desk: Desk, request: PlacementRequest) -> None:
        self.request = request
        self.outcome: Outcome | None = None
        """What the answer has told, if it came to its end."""
        self._desk = desk
        self._is_placed = False
        self._decision: Decision | None = None
        self._waiter: asyncio.Future[None] | None = None
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
        assert not self._is_placed, self.request.request_id
        self._is_placed = True
        self._desk.submit(self.request, self._decide)
        if self._decision is None:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        decision = self._decision
        assert decision is not None, self.request.request_id
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
        # A new id, so that nothing still under way for the old one can be taken for the new.
        self.request = msgspec.structs.replace(
            self.request,
            request_id=self._desk.unique_id(),
            cause=cause,
            avoid=avoid,
            separable=separable,
        )
        return await self.place()

    def prefilled(self, usage: PromptUsage | None) -> None:
        """Take note that the prompt is computed."""
        self._desk.prefilled(self.request.request_id, usage)

    async def move_decode(self, avoid: frozenset[WorkerId]) -> Worker | None:
        """Take a place at another decode worker, None if there is none outside *avoid*."""
        return await self._desk.move_decode(self.request.request_id, avoid)

    def _decide(self, decision: Decision) -> None:
        self._decision = decision
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _give_back(self) -> None:
        if not self._is_placed:
            return
        decision, self._decision = self._decision, None
        self._is_placed = False
        self._waiter = None
        if decision is None:
            self._desk.cancel(self.request.request_id)
        elif isinstance(decision, Dispatch):
            self._desk.finished(self.request.request_id, self.outcome)
