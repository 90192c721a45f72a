"""Numbers for what pool managers are told: each larger than all before, also over restarts."""

import time
from collections.abc import Callable


class Generations:
    """A manager refuses a generation below its last, which an earlier process may have given.

    So they are the nanoseconds of the wall clock, or one more than the last if that stood still or
    went back.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._last = 0

    def next(self, above: int = 0) -> int:
        """Return a generation larger than *above*, which a manager reports."""
        self._last = max(self._clock(), self._last + 1, above + 1)
        return self._last
