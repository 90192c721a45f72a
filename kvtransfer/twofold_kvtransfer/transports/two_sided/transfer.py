"""One move of blocks over a line."""

import threading
from collections.abc import Callable

from twofold_kvtransfer.transports.port import TransferState
from twofold_kvtransfer.transports.tcp.failing import Failure


class TwoSidedTransfer:
    """Fails the moment it is told to, unless its blocks are *held*: then as soon as they are let
    go. Who moves it holds them for as long as it copies a buffer to or from them, no longer."""

    def __init__(
        self,
        size_bytes: int,
        clock: Callable[[], float],
        when_ended: Callable[["TwoSidedTransfer"], None],
    ) -> None:
        """*when_ended* is called once, with the transfer's lock held."""
        self.size_bytes = size_bytes
        self._clock = clock
        self._when_ended = when_ended
        self._lock = threading.Lock()
        self._held = False
        self._failure: Failure | None = None
        self._reason: str | None = None
        self._started_at = clock()
        self._ended_at: float | None = None

    def poll(self) -> TransferState:
        with self._lock:
            if self._ended_at is None:
                return TransferState.MOVING
            return TransferState.DONE if self._failure is None else TransferState.FAILED

    @property
    def reason(self) -> str | None:
        with self._lock:
            return self._reason if self._ended_at is not None else None

    @property
    def seconds(self) -> float:
        with self._lock:
            return (self._clock() if self._ended_at is None else self._ended_at) - self._started_at

    def cancel(self) -> None:
        self.fail(Failure.CANCELLED, str(Failure.CANCELLED))

    @property
    def is_wanted(self) -> bool:
        with self._lock:
            return self._is_wanted()

    def hold(self) -> bool:
        """Take hold of the blocks; return False if the transfer is not wanted any more."""
        with self._lock:
            self._held = self._is_wanted()
            return self._held

    def let_go(self) -> None:
        with self._lock:
            self._held = False
            if self._failure is not None:
                self._end()

    def fail(self, failure: Failure, reason: str) -> None:
        """Make it fail, unless it has ended or has a reason already."""
        with self._lock:
            if not self._is_wanted():
                return
            self._failure = failure
            self._reason = reason
            if not self._held:
                self._end()

    def finish(self) -> None:
        """Make it done, unless it has failed."""
        with self._lock:
            if self._is_wanted():
                self._end()

    def _is_wanted(self) -> bool:
        return self._failure is None and self._ended_at is None

    def _end(self) -> None:
        self._ended_at = self._clock()
        self._when_ended(self)
