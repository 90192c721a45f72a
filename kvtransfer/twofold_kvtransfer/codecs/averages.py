"""A running estimate of something positive that an outlier does not move."""

import math
from statistics import median


class SteadyAverage:
    """An exponential average of logarithms, with a gate.

    A value within ``GATE`` times the average, up or down, is averaged in. One outside it waits:
    if ``WITNESSES`` values in a row are outside, the world has changed, and the average becomes
    their median; if one inside comes first, those that waited are forgotten. So one or two
    outliers change nothing, and a change is followed after ``WITNESSES`` values.

    An average of fewer values gives way to as many and one more: a guess, of none, to the first.
    """

    GATE = 1.5
    WITNESSES = 3
    WEIGHT = 0.25
    """Of a new value."""

    def __init__(self, start: float, *, guessed: bool = False) -> None:
        self._log = math.log(start)
        self._spread = 0.0
        self._behind = 0 if guessed else self.WITNESSES
        """How many values speak for the average, counted up to ``WITNESSES``."""
        self._waiting: list[float] = []

    @property
    def value(self) -> float:
        return math.exp(self._log)

    @property
    def upper(self) -> float:
        """The average, and by how much values within the gate differ from it on average."""
        return math.exp(self._log + self._spread)

    def doubt(self) -> None:
        """Take the average for a guess: the next value is taken for what it is."""
        self._behind = 0
        self._waiting.clear()

    def add(self, value: float) -> None:
        """Count *value*, which is positive and finite."""
        log = math.log(value)
        away = abs(log - self._log)
        if self._behind and away <= math.log(self.GATE):
            self._waiting.clear()
            self._log += self.WEIGHT * (log - self._log)
            self._spread += self.WEIGHT * (away - self._spread)
            self._behind = min(self._behind + 1, self.WITNESSES)
            return
        self._waiting.append(log)
        if len(self._waiting) > min(self._behind, self.WITNESSES - 1):
            self._log = median(self._waiting)
            self._behind = len(self._waiting)
            self._waiting.clear()
