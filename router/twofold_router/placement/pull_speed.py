"""How long a worker takes to get one token of a prefix that another worker holds."""

from typing import Final

from twofold_router.placement.prefill_speed import (
    MIN_OWN_SAMPLES,
    MIN_SAMPLE_TOKENS,
    POOL_WINDOW,
    WINDOW,
)
from twofold_router.placement.rolling_quantile import RollingQuantile


class PullSpeed:
    """Seconds per token of the prefixes that one worker has fetched, or a pool: medians, as those
    of ``PrefillSpeed``. What a worker learns is taught to its pool."""

    __slots__ = ("_own", "_pool")

    def __init__(self, pool: "PullSpeed | None" = None) -> None:
        """*pool* is what a worker is judged by before it is known; None makes a pool's own."""
        self._pool: Final = pool
        self._own = RollingQuantile(WINDOW if pool else POOL_WINDOW)

    @property
    def seconds_per_token(self) -> float | None:
        """None until somebody in the pool has fetched something."""
        own = self._own
        if self._pool is None or (own.value is not None and len(own) >= MIN_OWN_SAMPLES):
            return own.value
        return self._pool.seconds_per_token

    def observe(self, seconds: float, tokens: float) -> None:
        """Take in that *tokens* were fetched in *seconds*."""
        if tokens >= MIN_SAMPLE_TOKENS and seconds > 0:
            self._add(seconds / tokens)

    def declined(self, seconds_per_token: float) -> None:
        """Take in that a source was named and nothing fetched, so that the prefix cost what it
        takes to compute, *seconds_per_token*. Where only that happens, nobody is sent to a worker
        in the hope of fetching. Before anything was fetched it teaches nothing."""
        if self.seconds_per_token is not None:
            self._add(seconds_per_token)

    def _add(self, seconds_per_token: float) -> None:
        self._own.add(seconds_per_token)
        if self._pool:
            self._pool._add(seconds_per_token)  # noqa: SLF001 - another of this class
