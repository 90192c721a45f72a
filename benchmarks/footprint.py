"""What a process holds over time: memory and descriptors."""

import time
from collections.abc import Sequence
from statistics import median

import msgspec

from benchmarks.figures import slope
from benchmarks.processes import MeasuredProcess

MIB = 1 << 20
SECONDS_PER_MINUTE = 60.0


class Footprint(msgspec.Struct, frozen=True):
    """One look at a process."""

    at: float
    """Seconds since the watching began."""
    resident_mib: float
    descriptors: int


class Watch:
    """Looks at *process* whenever it is told to."""

    def __init__(self, process: MeasuredProcess) -> None:
        self._process = process
        self._began_at = time.monotonic()
        self.seen: list[Footprint] = []

    def look(self) -> None:
        """
        Raises:
            ProcessError: the process has ended.
        """
        self._process.check()
        resident_mib = self._process.resident_bytes() / MIB
        at = time.monotonic() - self._began_at
        self.seen.append(Footprint(at, resident_mib, self._process.descriptor_count()))


def growth(seen: Sequence[Footprint]) -> float:
    """Return by how many times the memory of the last third exceeds that of the middle third.

    The first third is left out: there caches and pools fill.
    """
    third = max(1, len(seen) // 3)
    middle, last = seen[third : 2 * third], seen[-third:]
    return median(each.resident_mib for each in last) / median(
        each.resident_mib for each in (middle or last)
    )


def mib_per_minute(seen: Sequence[Footprint]) -> float:
    """Return the trend of the memory after the first third."""
    points = [(each.at, each.resident_mib) for each in seen[len(seen) // 3 :]]
    return slope(points) * SECONDS_PER_MINUTE
