"""The transfers of a pair, and what of them waits for a thread."""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from twofold_kvtransfer.transports.sockets.failing import Failure
from twofold_kvtransfer.transports.sockets.transfer import PolledTransfer
from twofold_kvtransfer.transports.sockets.wire import Request

T = TypeVar("T", bound=PolledTransfer)


@dataclass(frozen=True, slots=True)
class Share(Generic[T]):
    """What one thread moves of a transfer."""

    transfer: T
    request: Request
    local: tuple[int, ...]
    remote: tuple[int, ...]


class Queue(Generic[T]):
    """Shares are taken first come, first served; those of a transfer that has ended never are."""

    def __init__(self, limit: int) -> None:
        """*limit* is that of the transfers which have not ended."""
        self._limit = limit
        self._changed = threading.Condition()
        self._waiting: deque[Share[T]] = deque()
        self._untaken: dict[T, int] = {}
        """Of each transfer that has not ended, how many shares wait."""
        self._closed_for: str | None = None

    def put(self, transfer: T, shares: Sequence[Share[T]]) -> None:
        """Let the *shares* of *transfer* wait; or fail it at once, if there are too many or the
        queue is closed."""
        with self._changed:
            closed_for = self._closed_for
            busy = len(self._untaken) >= self._limit
            if closed_for is None and not busy:
                self._untaken[transfer] = len(shares)
                self._waiting.extend(shares)
                self._changed.notify(len(shares))
        if closed_for is not None:
            transfer.fail(Failure.CLOSED, closed_for)
        elif busy:
            transfer.fail(Failure.BUSY, f"{Failure.BUSY}: {self._limit} transfers are moving")

    def take(self) -> Share[T] | None:
        """Wait for a share; None when there will be no more."""
        with self._changed:
            while self._closed_for is None:
                if self._waiting:
                    share = self._waiting.popleft()
                    self._untaken[share.transfer] -= 1
                    return share
                self._changed.wait()
            return None

    def drop(self, transfer: T) -> None:
        """Forget *transfer*, which has ended."""
        with self._changed:
            # A peer that stands still would else have the cancelled ones pile up behind it.
            if self._untaken.pop(transfer, 0):
                self._waiting = deque(s for s in self._waiting if s.transfer is not transfer)

    def close(self, reason: str) -> bool:
        """Fail all transfers for *reason*, now and later; return False if that was done before."""
        with self._changed:
            if self._closed_for is not None:
                return False
            self._closed_for = reason
            moving = list(self._untaken)
            self._changed.notify_all()
        for transfer in moving:
            transfer.fail(Failure.CLOSED, reason)
        return True
