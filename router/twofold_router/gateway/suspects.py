"""Workers that have just failed us, and get nothing new until they were given time to vanish."""

from collections.abc import Iterable

import msgspec

from twofold_cluster.worker import Worker, WorkerState
from twofold_router.placement.accounts import Life, life_of


class Suspects:
    """Incarnations by the moment at which they are trusted again, in seconds on one clock."""

    def __init__(self, suspect_seconds: float) -> None:
        self._suspect_seconds = suspect_seconds
        self._until: dict[Life, float] = {}

    def add(self, worker: Worker, now: float) -> None:
        self._until[life_of(worker)] = now + self._suspect_seconds

    def has(self, worker: Worker, now: float) -> bool:
        return self._until.get(life_of(worker), now) > now

    def mark(self, workers: Iterable[Worker], now: float) -> list[Worker]:
        """Return *workers* with the suspects as draining: they keep what they have."""
        self._until = {life: until for life, until in self._until.items() if until > now}
        return [
            msgspec.structs.replace(worker, state=WorkerState.DRAINING)
            if life_of(worker) in self._until
            else worker
            for worker in workers
        ]
