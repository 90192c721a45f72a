"""In which order those who wait for one worker go: the interface, and two simple orders."""

from collections.abc import Iterable
from typing import Protocol

from twofold_router.placement.ranking import Ranking
from twofold_router.placement.waiting import Waiting


class Order(Protocol):
    """Those who wait for one worker. ``len`` counts them."""

    @property
    def ahead_seconds(self) -> float:
        """Work that a newcomer would find before it."""
        ...

    def other_seconds(self, waiting: Waiting) -> float:
        """Return the same for *waiting*, who is here: without its own work."""
        ...

    def __len__(self) -> int: ...

    def add(self, waiting: Waiting, now: float) -> None: ...

    def remove(self, waiting: Waiting) -> None:
        """Forget *waiting*, which is here."""
        ...

    def next(self, starts_at: float) -> Waiting | None:
        """Name the one who goes next, if it were to start at *starts_at*; it stays here."""
        ...

    def everyone(self) -> Iterable[Waiting]:
        """Return all who wait here, in no order. Valid until the next change."""
        ...

    def late(self) -> list[Waiting]:
        """Return those who cannot be on time any more, once each."""
        ...

    def longest_late(self) -> Waiting | None:
        """Name the one who has been late for longest, None if nobody is."""
        ...


class ByArrival:
    """First come, first served."""

    def __init__(self) -> None:
        self._waiting: dict[int, Waiting] = {}
        self._seconds = 0.0

    @property
    def ahead_seconds(self) -> float:
        return self._seconds if self._waiting else 0.0

    def other_seconds(self, waiting: Waiting) -> float:
        return self._seconds - waiting.seconds

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, waiting: Waiting, now: float) -> None:
        self._waiting[waiting.serial] = waiting
        self._seconds += waiting.seconds

    def remove(self, waiting: Waiting) -> None:
        del self._waiting[waiting.serial]
        self._seconds = self._seconds - waiting.seconds if self._waiting else 0.0

    def next(self, starts_at: float) -> Waiting | None:
        return next(iter(self._waiting.values()), None)

    def everyone(self) -> Iterable[Waiting]:
        return self._waiting.values()

    def late(self) -> list[Waiting]:
        return []

    def longest_late(self) -> Waiting | None:
        return None


class ByCachedPrefix(ByArrival):
    """The longest cached prefix first, then by arrival (DualMap, section on the local scheduler).

    The prefix is the one at the time of the choice, so that an entry keeps its place.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ranking: Ranking[int] = Ranking()

    def add(self, waiting: Waiting, now: float) -> None:
        super().add(waiting, now)
        self._ranking.add(waiting.serial, waiting.uncached_tokens - waiting.prompt_tokens)

    def remove(self, waiting: Waiting) -> None:
        super().remove(waiting)
        self._ranking.discard(waiting.serial)

    def next(self, starts_at: float) -> Waiting | None:
        first = self._ranking.first()
        return self._waiting[first[1]] if first else None
