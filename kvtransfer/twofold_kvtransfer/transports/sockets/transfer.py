"""What is seen of a transfer that threads move."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

from twofold_kvtransfer.transports.port import TransferState
from twofold_kvtransfer.transports.sockets.failing import Failure


class PolledTransfer(ABC):
    """Has ended when ``_ended_at`` is set, and keeps moving until then even if it has a reason to
    fail. All of it is read and changed with ``_lock`` held."""

    def __init__(self, size_bytes: int, clock: Callable[[], float]) -> None:
        self.size_bytes = size_bytes
        self._clock = clock
        self._lock = threading.Lock()
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

    def fail(self, failure: Failure, reason: str) -> None:
        """Make it fail, unless it has ended or has a reason already."""
        with self._lock:
            self._fail(failure, reason)

    def _fail(self, failure: Failure, reason: str) -> None:
        if self._is_wanted():
            self._failure = failure
            self._reason = reason
            self._stop()

    def _is_wanted(self) -> bool:
        return self._failure is None and self._ended_at is None

    @abstractmethod
    def _stop(self) -> None:
        """End it, now that it has a reason to fail, or have it end soon."""
