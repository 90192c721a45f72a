"""A slow link made of a fast one."""

import threading
from collections.abc import Callable

BURST_SECONDS = 0.001
"""Of idleness that is made up for later. It hides that a sleep ends late, which would cost a tenth
of a link of 100 Gbit/s, and is not enough to be seen in a transfer worth measuring."""


class RateLimit:
    """A token bucket for all streams of a transport together.

    Each taker books the time that its bytes need on the link after those booked before, and waits
    for the end of it: a byte arrives when the link would have delivered it.
    """

    def __init__(self, bytes_per_second: float, clock: Callable[[], float]) -> None:
        self._seconds_per_byte = 1 / bytes_per_second
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at = clock()

    def book(self, size_bytes: int) -> float:
        """Return for how many seconds to wait before *size_bytes* are sent."""
        with self._lock:
            now = self._clock()
            begin = max(now - BURST_SECONDS, self._free_at)
            self._free_at = begin + size_bytes * self._seconds_per_byte
            return max(0.0, self._free_at - now)
