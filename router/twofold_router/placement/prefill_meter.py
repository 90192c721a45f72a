"""Prefills that an engine computes together, as one sample of its speed.

An engine computes several short prompts in one step and tells of them at once. By itself the first
would have taken the whole step, and the others no time at all; together they took what they took.
"""

from twofold_router.placement.prefill_speed import PrefillSpeed

TOGETHER = 4.0
"""A prefill that seems so many times as fast as the one before ended with it."""


class PrefillMeter:
    """Adds up what a worker computed together, and the time it took, until that is a sample."""

    __slots__ = ("_seconds", "_speed", "_tokens")

    def __init__(self, speed: PrefillSpeed) -> None:
        self._speed = speed
        self._seconds = 0.0
        self._tokens = 0.0

    def add(self, seconds: float, computed_tokens: float, *, is_idle: bool) -> None:
        """Take in a prefill that ended *seconds* after the last one, or after it began.

        *is_idle* tells that the worker has no other to compute now.
        """
        if self._tokens * seconds * TOGETHER >= self._seconds * computed_tokens:
            self._complete()
        self._seconds += seconds
        self._tokens += computed_tokens
        if is_idle:
            self._complete()

    def _complete(self) -> None:
        self._speed.observe(self._seconds, self._tokens)
        self._seconds = self._tokens = 0.0
