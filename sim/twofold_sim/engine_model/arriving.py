"""Sequences that something is done for outside of the batch until a known moment."""

from heapq import heappop, heappush

from twofold_sim.engine_model.sequence import Sequence, State


class Arrivals:
    """Sequences in the order of when they are ready, and of their coming where that is the same."""

    __slots__ = ("_count", "_entries", "_state")

    def __init__(self, state: State) -> None:
        """A sequence that is not in *state* any more is forgotten."""
        self._state = state
        self._entries: list[tuple[float, int, Sequence]] = []
        self._count = 0

    def add(self, sequence: Sequence, ready_at: float) -> None:
        sequence.state = self._state
        heappush(self._entries, (ready_at, self._count, sequence))
        self._count += 1

    def next_at(self) -> float | None:
        """Return when the next is ready."""
        entries = self._entries
        while entries and entries[0][2].state is not self._state:
            heappop(entries)
        return entries[0][0] if entries else None

    def take_ready(self, now: float) -> list[Sequence]:
        ready: list[Sequence] = []
        while (at := self.next_at()) is not None and at <= now:
            ready.append(heappop(self._entries)[2])
        return ready
