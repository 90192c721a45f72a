"""A quantile of the last few samples: follows a change, and is not moved by an outlier."""

from bisect import bisect_left, insort
from collections import deque


class RollingQuantile:
    """The last *window* samples, by age and by size; *share* of them are not above ``value``.

    Invariant: ``_sorted`` holds what ``_by_age`` holds, in ascending order. For the median (a share
    of one half) half a window of equal samples is enough to set it, and fewer outliers never do.
    """

    __slots__ = ("_by_age", "_share", "_sorted", "_window", "value")

    value: float | None
    """None before the first sample; between two samples, the lower one."""

    def __init__(self, window: int, share: float = 0.5) -> None:
        self._window = window
        self._share = share
        self._by_age: deque[float] = deque()
        self._sorted: list[float] = []
        self.value = None

    def __len__(self) -> int:
        return len(self._by_age)

    def add(self, sample: float) -> None:
        """Take *sample* in and drop the oldest beyond the window: O(log window) comparisons."""
        if len(self._by_age) == self._window:
            oldest = self._by_age.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        self._by_age.append(sample)
        insort(self._sorted, sample)
        self.value = self._sorted[int((len(self._sorted) - 1) * self._share)]
