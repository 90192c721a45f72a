"""The consistent-hash ring that names a key's candidates (DualMap, arXiv 2602.06502, dual ring).

The paper has one point per worker and two hashes of the key. Here a worker has many points, which
evens out the arcs (the relative spread of the shares is about ``1 / sqrt(points_per_worker)``, 12 %
with 64), and a key may have more hashes than two.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from xxhash import xxh3_64_intdigest

POINTS_PER_WORKER = 64

MAX_POINTS_PER_ARC = 128
"""Arcs are halved above this and joined below an eighth of it, so that a join or a leave costs the
same in any ring: 10,000 workers have 640,000 points."""

_POSITION_BITS = 64

_POINT_SEED = 1 << 32
"""Of the workers' points; the keys have the small seeds, one for each hash function."""


class Ring:
    """Workers on a circle of 2**64 positions, found by the keys that fall before them.

    It depends on which workers stand on it only, not on the order they came in. Invariant: the arcs
    are the circle in order, cut into a power of two of equal parts; a point at ``position`` is in
    ``_arcs[position >> _shift]``.
    """

    def __init__(
        self, workers: Iterable[str] = (), *, points_per_worker: int = POINTS_PER_WORKER
    ) -> None:
        self._points_per_worker = points_per_worker
        self._workers: set[str] = set()
        self._arcs = [_Arc(array("Q"), [])]
        self._shift = _POSITION_BITS
        for worker in workers:
            self.add(worker)

    def __len__(self) -> int:
        return len(self._workers)

    def __contains__(self, worker: object) -> bool:
        return worker in self._workers

    def successors(self, key: bytes, count: int) -> tuple[str, ...]:
        """Return *count* workers for *key*, or all if there are fewer.

        Candidate k is the clockwise successor of the key's k-th hash or, if that is a candidate
        already, the next one clockwise that is not. So the first two of eight are the two of two;
        and a worker that leaves is replaced in the candidates that it was in, nothing else.
        """
        arcs, shift = self._arcs, self._shift
        candidates: list[str] = []
        for seed in range(min(count, len(self._workers))):
            position = xxh3_64_intdigest(key, seed)
            number = position >> shift
            arc = arcs[number]
            index, owners = bisect_left(arc.positions, position), arc.owners
            while index == len(owners) or owners[index] in candidates:
                if index < len(owners):
                    index += 1
                else:
                    number = (number + 1) % len(arcs)
                    index, owners = 0, arcs[number].owners
            candidates.append(owners[index])
        return tuple(candidates)

    def add(self, worker: str) -> None:
        """Place *worker*. Nothing happens if it stands here already."""
        if worker in self._workers:
            return
        self._workers.add(worker)
        for position in self._positions_of(worker):
            arc = self._arcs[position >> self._shift]
            index = arc.index_of(position, worker)
            arc.positions.insert(index, position)
            arc.owners.insert(index, worker)
        while self._points_per_arc() > MAX_POINTS_PER_ARC:
            self._shift -= 1
            self._arcs = [half for arc in self._arcs for half in arc.halves(self._shift)]

    def remove(self, worker: str) -> None:
        """Take *worker* away. Nothing happens if it does not stand here."""
        if worker not in self._workers:
            return
        self._workers.remove(worker)
        for position in self._positions_of(worker):
            arc = self._arcs[position >> self._shift]
            index = arc.index_of(position, worker)
            del arc.positions[index], arc.owners[index]
        while len(self._arcs) > 1 and self._points_per_arc() < MAX_POINTS_PER_ARC / 8:
            self._shift += 1
            self._arcs = list(map(_joined, self._arcs[::2], self._arcs[1::2]))

    def _positions_of(self, worker: str) -> set[int]:
        numbers = range(self._points_per_worker)
        return {xxh3_64_intdigest(f"{worker}#{number}".encode(), _POINT_SEED) for number in numbers}

    def _points_per_arc(self) -> float:
        return len(self._workers) * self._points_per_worker / len(self._arcs)


@dataclass(slots=True)
class _Arc:
    """A part of the circle. Invariant: ``owners[i]`` stands at ``positions[i]``, and these are in
    order, as are the ids of those that share one."""

    positions: "array[int]"
    owners: list[str]

    def index_of(self, position: int, worker: str) -> int:
        """Return where the point of *worker* is, or belongs."""
        index = bisect_left(self.positions, position)
        while (
            index < len(self.owners)
            and self.positions[index] == position
            and self.owners[index] < worker
        ):
            index += 1
        return index

    def halves(self, shift: int) -> "tuple[_Arc, _Arc]":
        """Cut where the bit above *shift* changes."""
        cut = bisect_left(self.positions, 1, key=lambda position: position >> shift & 1)
        return (
            _Arc(self.positions[:cut], self.owners[:cut]),
            _Arc(self.positions[cut:], self.owners[cut:]),
        )


def _joined(first: _Arc, second: _Arc) -> _Arc:
    return _Arc(first.positions + second.positions, first.owners + second.owners)
