"""The median of the last few samples: follows a change, and is not moved by an outlier."""

from bisect import bisect_left, insort
from collections import deque


class RollingMedian:
    """The last *window* samples, by age and by size.

    Invariant: ``_sorted`` holds what ``_by_age`` holds, in ascending order. Half a window of equal
    samples is enough to set the median, and fewer outliers than that never do.
    """

    __slots__ = ("_by_age", "_sorted", "_window", "median")

    median: float | None
    """None before the first sample; of an even number of samples, the lower middle one."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._by_age: deque[float] = deque()
        self._sorted: list[float] = []
        self.median = None

    def __len__(self) -> int:
        return len(self._by_age)

    def add(self, sample: float) -> None:
        """Take *sample* in and drop the oldest beyond the window: O(log window) comparisons."""
        if len(self._by_age) == self._window:
            oldest = self._by_age.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        self._by_age.append(sample)
        insort(self._sorted, sample)
        self.median = self._sorted[(len(self._sorted) - 1) // 2]
