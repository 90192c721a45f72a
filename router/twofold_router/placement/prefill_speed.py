"""How long a worker takes to prefill one token."""

from typing import Final

from twofold_router.placement.rolling_quantile import RollingQuantile

DEFAULT_SECONDS_PER_TOKEN = 0.00016
"""DualMap's figure (arXiv 2602.06502), for a worker and a pool that nothing is known of."""

WINDOW = 9
"""Prefills in a worker's median: four outliers change nothing, and five slow ones in a row do."""

POOL_WINDOW = 65
"""In a pool's median, so that a burst on one worker is not taken for all of them."""

MIN_OWN_SAMPLES = 3
"""The fewest whose median an outlier cannot be."""

MIN_SAMPLE_TOKENS = 128
"""A shorter prefill takes about 20 ms at the default speed, and measures the request around it."""


class PrefillSpeed:
    """Seconds per prefill token of one worker, or of a pool, by the best source there is.

    What the router measured itself comes first, because it is what a request sees; then what the
    worker announces, which other routers' requests have measured; then the pool's median; then the
    default. What a worker learns is taught to its pool.
    """

    __slots__ = ("_announced", "_known", "_own", "_pool")

    def __init__(self, pool: "PrefillSpeed | None" = None) -> None:
        """*pool* is what a worker is judged by before it is known; None makes a pool's own."""
        self._pool: Final = pool
        self._own = RollingQuantile(WINDOW if pool else POOL_WINDOW)
        self._announced: float | None = None
        self._known: float | None = None
        """By the first two sources; kept, because a choice asks for it again and again."""

    @property
    def seconds_per_token(self) -> float:
        if self._known is not None:
            return self._known
        return self._pool.seconds_per_token if self._pool else DEFAULT_SECONDS_PER_TOKEN

    def observe(self, service_seconds: float, computed_tokens: float) -> None:
        """Take in a prefill that computed *computed_tokens*, those from the cache left out.

        *service_seconds* are those in which the worker was at it, without the wait before.
        """
        if computed_tokens < MIN_SAMPLE_TOKENS or service_seconds <= 0:
            return
        self._learn(service_seconds / computed_tokens)
        if self._pool:
            self._pool.observe(service_seconds, computed_tokens)

    def announce(self, seconds_per_token: float | None) -> None:
        """Take in ``Load.seconds_per_prefill_token``. The same value again teaches nothing."""
        if seconds_per_token is None or seconds_per_token <= 0:
            return
        if self._pool and seconds_per_token != self._announced:
            self._pool.learn_announced(seconds_per_token)
        self._announced = seconds_per_token
        if len(self._own) < MIN_OWN_SAMPLES:
            self._known = seconds_per_token

    def learn_announced(self, seconds_per_token: float) -> None:
        """Take in, as a pool, what one of its workers announces."""
        self._learn(seconds_per_token)

    def _learn(self, seconds_per_token: float) -> None:
        self._own.add(seconds_per_token)
        if len(self._own) >= MIN_OWN_SAMPLES:
            self._known = self._own.value
