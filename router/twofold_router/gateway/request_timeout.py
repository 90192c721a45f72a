"""A bound on the time of each of many tasks, kept by one sweep instead of a timer for each.

``asyncio.timeout`` costs a timer that is made and cancelled with every request, which is as much
as the placement's decision. A request that takes minutes does not mind a tick more.
"""

import asyncio
import math
from collections.abc import Callable
from types import TracebackType

from twofold_cluster.errors import Fault, RequestError
from twofold_cluster.identity import WorkerId


class Deadlines:
    """The running tasks that have a deadline. ``sweep`` is to be called now and then."""

    def __init__(self) -> None:
        self._running: set[Deadline] = set()
        self._is_ending = False

    def at(
        self, moment: float, worker_id: WorkerId | None = None, *, outlasts: bool = False
    ) -> "Deadline":
        """Return a context that is cancelled after *moment*, on the clock that ``sweep`` is told,
        and then raises TimeoutError. *worker_id*: what is waited for there. *outlasts*: it is none
        of those that ``end_all`` ends."""
        return Deadline(self._running, moment, worker_id, outlasts=outlasts)

    def sweep(self, now: float) -> None:
        """End what is over its time."""
        for deadline in [each for each in self._running if each.moment <= now]:
            if deadline.look is None:
                deadline.expire()
            else:
                deadline.moment = deadline.look()

    def end_at(self, worker_id: WorkerId) -> None:
        """End those who wait for a worker."""
        for deadline in [each for each in self._running if each.worker_id == worker_id]:
            deadline.expire()

    def end_all(self) -> None:
        """End the requests: the router leaves them no more time."""
        self._is_ending = True
        for deadline in [each for each in self._running if not each.outlasts]:
            deadline.expire()

    def error(self, limit_seconds: float) -> RequestError:
        """Return what is told of a request that was ended, which had *limit_seconds*."""
        if self._is_ending:
            message = "the router ends, and did not come to the end of the request"
            return RequestError(Fault.DRAINING, message, retry_after_seconds=1)
        message = f"not finished within {limit_seconds:g} seconds"
        return RequestError(Fault.DEADLINE_EXCEEDED, message)


class Deadline:
    """One task's bound, for the duration of a ``with`` block in it."""

    __slots__ = ("_end", "_running", "_task", "expired", "look", "moment", "outlasts", "worker_id")

    def __init__(
        self,
        running: "set[Deadline]",
        moment: float,
        worker_id: WorkerId | None,
        *,
        outlasts: bool,
    ) -> None:
        self.moment = moment
        self.worker_id = worker_id
        self.outlasts = outlasts
        self.look: Callable[[], float] | None = None
        """Called at the moment instead, which does not end the task then; returns the next one."""
        self.expired = False
        self._end: Callable[[], None] | None = None
        self._running = running
        self._task: asyncio.Task[object] | None = None

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._running.add(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._running.discard(self)
        # A cancelled task holds its frames by their traceback, and one of them holds this object.
        task, self._task = self._task, None
        self._end = self.look = None  # which hold what those frames have, and an error of it
        if self.expired and kind is asyncio.CancelledError:
            assert task is not None
            # Somebody else may have cancelled the task as well; then it stays cancelled.
            if task.uncancel() == 0:
                raise TimeoutError from error

    def lift(self, end: Callable[[], None]) -> None:
        """Leave the task as much time as it takes; *end* is called where it would be cancelled."""
        self.moment = math.inf
        self._end = end

    def expire(self) -> None:
        """Cancel the task."""
        assert self._task is not None
        if self._end is not None:
            self._end()
            return
        self.expired = True
        self._running.discard(self)
        self._task.cancel()
