"""Whose time is over."""

from twofold_router.placement.ranking import Ranking


class Expiry:
    """Names by the moment at which their time is over."""

    def __init__(self) -> None:
        self._moments: Ranking[str] = Ranking()

    def __len__(self) -> int:
        return len(self._moments)

    def add(self, at: float, name: str) -> None:
        """Set the moment of *name*, whatever it was before."""
        self._moments.add(name, at)

    def discard(self, name: str) -> None:
        """Forget *name*. Nothing happens if it is not known."""
        self._moments.discard(name)

    def due(self, now: float) -> list[str]:
        """Forget and return those whose moment has come, by that moment."""
        due = []
        while (first := self._moments.first()) is not None and first[0] <= now:
            due.append(first[1])
            self._moments.discard(first[1])
        return due
