"""How soon a process that ended is started again."""

FIRST_SECONDS = 0.1
LONGEST_SECONDS = 5.0
"""Meanwhile the connections that the kernel has meant for the process wait."""

STEADY_SECONDS = 30.0
"""Who has lived so long does not end at every start."""


class Backoff:
    """Twice as long a pause for each life in a row that was short."""

    def __init__(self) -> None:
        self._seconds = FIRST_SECONDS

    def after(self, lived_seconds: float) -> float:
        """Return the seconds to wait after a life of *lived_seconds*."""
        if lived_seconds >= STEADY_SECONDS:
            self._seconds = FIRST_SECONDS
        pause, self._seconds = self._seconds, min(2 * self._seconds, LONGEST_SECONDS)
        return pause
