"""What happens when, in virtual time."""

import heapq
import itertools
from collections.abc import Callable
from typing import Any, TypeVarTuple

Arguments = TypeVarTuple("Arguments")


class EventQueue:
    """Functions to be called, each at its moment; those of one moment in the order they were added.

    Invariant: ``now`` never goes back.
    """

    __slots__ = ("_heap", "_serial", "count", "now")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = itertools.count()
        self.now = 0.0
        """Seconds from the beginning."""
        self.count = 0
        """Events that have happened."""

    def __len__(self) -> int:
        return len(self._heap)

    def add(
        self,
        at: float,
        happen: Callable[[*Arguments, float], None],
        *arguments: *Arguments,
    ) -> None:
        """Call *happen* with *arguments* and the moment at *at*, which is not in the past."""
        assert at >= self.now, (at, self.now)
        heapq.heappush(self._heap, (at, next(self._serial), happen, arguments))

    def run(self) -> None:
        """Let the time pass until nothing is left to happen."""
        heap, pop = self._heap, heapq.heappop
        while heap:
            now, _, happen, arguments = pop(heap)
            self.now = now
            self.count += 1
            happen(*arguments, now)
