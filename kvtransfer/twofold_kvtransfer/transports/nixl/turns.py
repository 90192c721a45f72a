"""Taking turns at something that one thread at a time may use."""

import threading
from types import TracebackType


class Turns:
    """A lock that whoever waits for gets next, also from a thread that takes it again at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = threading.Lock()

    def try_acquire(self) -> bool:
        """Take it if nobody has it; end it with :meth:`release`."""
        return self._lock.acquire(blocking=False)

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> None:
        with self._next:
            self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()
