"""A running estimate of something positive that an outlier does not move."""

import math
from statistics import median


class SteadyAverage:
    """An exponential average of logarithms, with a gate.

    A value within ``GATE`` times the average, up or down, is averaged in. One outside it waits:
    if ``WITNESSES`` values in a row are outside, the world has changed, and the average becomes
    their median; if one inside comes first, those that waited are forgotten. So one or two
    outliers change nothing, and a change is followed after ``WITNESSES`` values.

    An average that begins with a guess takes the first value for what it is.
    """

    GATE = 1.5
    WITNESSES = 3
    WEIGHT = 0.25
    """Of a new value."""

    def __init__(self, start: float, *, guessed: bool = False) -> None:
        self._log = math.log(start)
        self._is_guess = guessed
        self._waiting: list[float] = []

    @property
    def value(self) -> float:
        return math.exp(self._log)

    def add(self, value: float) -> None:
        """Count *value*, which is positive and finite."""
        log = math.log(value)
        if self._is_guess:
            self._log, self._is_guess = log, False
            return
        if abs(log - self._log) <= math.log(self.GATE):
            self._waiting.clear()
            self._log += self.WEIGHT * (log - self._log)
            return
        self._waiting.append(log)
        if len(self._waiting) == self.WITNESSES:
            self._log = median(self._waiting)
            self._waiting.clear()
