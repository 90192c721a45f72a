"""The batches of which the directory has not been told, and since when they wait."""

from collections.abc import Callable


class Backlog:
    """Each batch waits, is on its way, or has arrived; those on their way are older than those
    that wait."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.arrived_count = 0
        self._waiting_count = 0
        self._waiting_since: float | None = None
        self._leaving_count = 0
        self._leaving_since: float | None = None

    def add(self) -> None:
        """A batch is heard."""
        self._waiting_count += 1
        if self._waiting_since is None:
            self._waiting_since = self._clock()

    def leave(self) -> None:
        """All that wait go on their way. Then :meth:`settle` must be called."""
        self._leaving_count, self._waiting_count = self._waiting_count, 0
        self._leaving_since, self._waiting_since = self._waiting_since, None

    def settle(self, *, has_arrived: bool) -> None:
        """Those on their way have arrived, or wait again."""
        if has_arrived:
            self.arrived_count += self._leaving_count
        else:
            self._waiting_count += self._leaving_count
            self._waiting_since = self._oldest_since()
        self._leaving_count, self._leaving_since = 0, None

    def lag_seconds(self) -> float:
        """Return how long the oldest that has not arrived has waited; 0 if there is none."""
        since = self._oldest_since()
        return 0.0 if since is None else self._clock() - since

    def _oldest_since(self) -> float | None:
        return self._waiting_since if self._leaving_since is None else self._leaving_since
