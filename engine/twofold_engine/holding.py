"""Whom a worker obeys: the pool manager that took it over last."""

from twofold_engine.errors import SupersededError


class Hold:
    """One manager's hold on a worker. Times are seconds of one monotonic clock.

    The hold is lost by silence: after *limit_seconds* without a call of its manager nobody may be
    left who would ever end the worker. Without a limit it is never lost.
    """

    def __init__(self, manager: str, limit_seconds: float | None, now: float) -> None:
        self._manager = manager
        self._limit_seconds = limit_seconds
        self._heard_at = now

    def take(self, manager: str, now: float) -> None:
        """Obey *manager* from now on, and nobody else."""
        self._manager = manager
        self._heard_at = now

    def check(self, manager: str, now: float) -> None:
        """Hear *manager*.

        Raises:
            SupersededError: it holds this worker no longer.
        """
        if manager != self._manager:
            raise SupersededError(f"pool manager {self._manager} has taken over")
        self._heard_at = now

    def left_seconds(self, now: float) -> float | None:
        """Return how much longer the manager may be silent, 0 at the least; None: for ever."""
        if self._limit_seconds is None:
            return None
        return max(0.0, self._heard_at + self._limit_seconds - now)
