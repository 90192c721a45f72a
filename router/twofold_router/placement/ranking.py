"""Names in order of a number, of which any can be taken out again."""

import heapq
from typing import Generic, TypeVar

Name = TypeVar("Name", int, str)

SPARE_ENTRIES = 64
"""Of those who have left; more of them, and more than those who are there, are swept out."""


class Ranking(Generic[Name]):
    """A heap of names by rank; equal ranks by name.

    Those who have left stay in the heap until they come up or are swept out, so that leaving costs
    little, and memory is in proportion to those who are there. Invariant: each of ``_ranks`` is in
    ``_heap`` with its rank.
    """

    __slots__ = ("_heap", "_ranks")

    def __init__(self) -> None:
        self._ranks: dict[Name, float] = {}
        self._heap: list[tuple[float, Name]] = []

    def __len__(self) -> int:
        return len(self._ranks)

    def add(self, name: Name, rank: float) -> None:
        """Put *name* in, or change its rank."""
        self._ranks[name] = rank
        heapq.heappush(self._heap, (rank, name))
        self._sweep()

    def discard(self, name: Name) -> None:
        """Take *name* out. Nothing happens if it is not in."""
        if self._ranks.pop(name, None) is not None:
            self._sweep()

    def first(self) -> tuple[float, Name] | None:
        """Return the least rank and its name; it stays in."""
        heap = self._heap
        while heap and self._ranks.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0] if heap else None

    def _sweep(self) -> None:
        if len(self._heap) > 2 * len(self._ranks) + SPARE_ENTRIES:
            self._heap = [(rank, name) for name, rank in self._ranks.items()]
            heapq.heapify(self._heap)
