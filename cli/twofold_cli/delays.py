"""How long to wait before a child is started again."""

from dataclasses import dataclass


@dataclass(slots=True)
class RestartDelays:
    """Delays that double from *first_seconds* to *longest_seconds*.

    One life of *settled_seconds* makes the next delay the first again: that was no start failure.
    """

    first_seconds: float = 1.0
    longest_seconds: float = 30.0
    settled_seconds: float = 60.0
    _next_seconds: float | None = None

    def after(self, lived_seconds: float) -> float:
        """Return the delay after a life of *lived_seconds*."""
        if self._next_seconds is None or lived_seconds >= self.settled_seconds:
            self._next_seconds = self.first_seconds
        delay = self._next_seconds
        self._next_seconds = min(2 * delay, self.longest_seconds)
        return delay
