"""The way of load reports from the workers to the routers: late, in order, and not all of them."""

import math
import random
from collections.abc import Sequence
from typing import Protocol

from twofold_cluster.membership.announcing import MIN_GAP_SECONDS
from twofold_cluster.worker import Worker
from twofold_sim.virtual.events import EventQueue
from twofold_sim.virtual.setup import Reporting
from twofold_sim.virtual.worker import VirtualWorker

AGAIN_SECONDS = 1.0
"""A worker announces itself this often though nothing has changed, which makes up for losses."""


class Listener(Protocol):
    """A router, as far as it hears of workers."""

    def follow(self, changed: Sequence[Worker], now: float) -> None:
        """Take *changed* workers as they are now."""
        ...


class Reports:
    """Sends the load of a worker as it changes, and at most every so often, as an Announcer does.

    Invariant: a worker is in ``_due`` exactly while a report of it is to be sent.
    """

    def __init__(
        self, reporting: Reporting, routers: Sequence[Listener], events: EventQueue, seed: int
    ) -> None:
        self._reporting = reporting
        self._routers = routers
        self._events = events
        self._rng = random.Random(f"reports {seed}")  # noqa: S311 - guards nothing
        self._due: set[VirtualWorker] = set()
        self._sent_at: dict[VirtualWorker, float] = {}
        self._arrives_at: dict[tuple[int, VirtualWorker], float] = {}

    def changed(self, worker: VirtualWorker, now: float) -> None:
        """Let the routers know of *worker* soon."""
        if worker not in self._due and worker.is_alive:
            self._due.add(worker)
            at = max(now, self._sent_at.get(worker, -math.inf) + MIN_GAP_SECONDS)
            self._events.add(at, self._send, worker)

    def forget(self, worker: VirtualWorker) -> None:
        """Send nothing more of *worker*, which is no more."""
        self._sent_at.pop(worker, None)
        for number in range(len(self._routers)):
            self._arrives_at.pop((number, worker), None)

    def _send(self, worker: VirtualWorker, now: float) -> None:
        self._due.remove(worker)
        if not worker.is_alive:
            return
        self._sent_at[worker] = now
        announcement = worker.announcement()
        is_lost = False
        for number, router in enumerate(self._routers):
            if self._rng.random() < self._reporting.loss:
                is_lost = True
                continue
            delay = self._rng.uniform(
                self._reporting.least_delay_seconds, self._reporting.most_delay_seconds
            )
            at = max(now + delay, self._arrives_at.get((number, worker), 0.0))
            self._arrives_at[number, worker] = at
            self._events.add(at, self._hear, router, worker, announcement)
        if is_lost and self._reporting.loss < 1:  # else it would be in vain for ever
            self._events.add(now + AGAIN_SECONDS, self.changed, worker)

    def _hear(
        self, router: Listener, worker: VirtualWorker, announcement: Worker, now: float
    ) -> None:
        # What was under way when it died comes before the news of its death, or not at all.
        if worker.is_alive:
            router.follow([announcement], now)
