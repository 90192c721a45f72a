"""Steps that follow one another without a change of the batch, as one."""

import math


class Run:
    """*step_count* steps in a row: each generates a token for every sequence, and so each takes as
    much longer than the one before as the context has grown.

    The end of step m is at ``began_at + m * first_seconds + growth_seconds * m * (m - 1) / 2``.
    """

    __slots__ = ("began_at", "ends_at", "first_seconds", "growth_seconds", "step_count")

    def __init__(
        self,
        began_at: float,
        first_seconds: float,
        growth_seconds: float = 0.0,
        step_count: int = 1,
    ) -> None:
        self.began_at = began_at
        self.first_seconds = first_seconds
        self.growth_seconds = growth_seconds
        self.step_count = step_count
        self.ends_at = self.end_of(step_count)

    def end_of(self, step: int) -> float:
        """Return when the step of this number ends, from 1; 0 is the beginning of the first."""
        return (
            self.began_at
            + step * self.first_seconds
            + self.growth_seconds * (step * (step - 1) / 2)
        )

    def begun_by(self, at: float) -> int:
        """Return how many steps have begun before *at*, and at least one.

        A step that ends at that moment is the last one.
        """
        if at >= self.ends_at:
            return self.step_count
        step = max(1, min(self.step_count, self._estimate(at - self.began_at)))
        while step > 1 and self.end_of(step - 1) >= at:
            step -= 1
        while self.end_of(step) < at:
            step += 1
        return step

    def cut(self, at: float) -> None:
        """End with the step that has begun before *at*."""
        step = self.begun_by(at)
        if step < self.step_count:
            self.step_count = step
            self.ends_at = self.end_of(step)

    def _estimate(self, seconds: float) -> int:
        """Solve for the number of steps that take *seconds*, but for the errors of rounding."""
        half = self.growth_seconds / 2
        linear = self.first_seconds - half
        root = math.sqrt(linear * linear + 4 * half * seconds)
        return math.ceil(2 * seconds / (root + linear)) if root + linear > 0.0 else 1
