"""One run in virtual time: requests, a policy, and a cluster that serves them."""

import itertools
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from twofold_router.placement import PlacementSnapshot, Placer
from twofold_router.placement.policy import MakePolicy
from twofold_sim.measuring import Samples, Served
from twofold_sim.virtual.cluster import Cluster
from twofold_sim.virtual.engines import answerable
from twofold_sim.virtual.events import EventQueue
from twofold_sim.virtual.exchange import Exchange
from twofold_sim.virtual.routing import Router
from twofold_sim.virtual.setup import NEVER_SECONDS, Setup
from twofold_sim.workloads import Prompt, key_of

MOST_SAMPLES = 10_000
"""Looks at what is pending where: of a run that takes longer, those of its beginning."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a run gave."""

    served: list[Served]
    """In the order in which they ended; each request once."""
    samples: Samples
    moved_count: int
    event_count: int
    virtual_seconds: float
    """From the first arrival to the end of the run."""
    snapshots: tuple[PlacementSnapshot, ...]
    """Of each router, at the end."""


class Replay:
    """Serves *prompts*, which are in order of their arrivals; used once.

    The same prompts, policy and setup give the same run, whatever the machine. *prompts* are taken
    one by one as their time comes, so that a million need not be in memory.
    """

    def __init__(self, prompts: Iterable[Prompt], make_policy: MakePolicy, setup: Setup) -> None:
        self._setup = setup
        self._events = EventQueue()
        self._routers = [
            Router(
                Placer(make_policy, setup.placement()),
                self._events,
                suspect_seconds=setup.suspect_seconds,
            )
            for _ in range(setup.replicas)
        ]
        self.cluster = Cluster(setup, self._routers, self._events)
        self._arrivals = self._arrive_one_by_one(prompts)
        self._noise = random.Random(f"noise {setup.seed}")  # noqa: S311 - guards nothing
        self._samples = Samples(interval_seconds=setup.sample_seconds)
        self._served: list[Served] = []
        self._in_progress: dict[int, Exchange] = {}
        self._has_more = True
        self._ended_at = 0.0

    def run(self) -> Replayed:
        """Let all requests come to their ends."""
        self._next_arrival(0.0)
        self._sample(0.0)
        self._events.run()
        assert not self._in_progress, list(self._in_progress)[:5]
        snapshots = tuple(router.snapshot() for router in self._routers)
        return Replayed(
            served=self._served,
            samples=self._samples,
            moved_count=sum(snapshot.moved for snapshot in snapshots),
            event_count=self._events.count,
            virtual_seconds=self._ended_at,
            snapshots=snapshots,
        )

    def _next_arrival(self, now: float) -> None:
        self._has_more = next(self._arrivals, None) is not None

    def _arrive_one_by_one(self, prompts: Iterable[Prompt]) -> Iterator[float]:
        """Schedule an arrival at each step, and yield its moment."""
        routers = itertools.cycle(self._routers)
        for number, asked in enumerate(prompts):
            prompt = answerable(asked, self._setup.cluster)
            exchange = Exchange(
                number,
                prompt,
                key_of(prompt),
                self._prefill_factor(),
                next(routers),
                self.cluster,
                self._setup,
                self._end,
            )
            self._events.add(prompt.at, self._arrive, exchange, prompt)
            yield prompt.at

    def _arrive(self, exchange: Exchange, prompt: Prompt, now: float) -> None:
        self._next_arrival(now)
        self._in_progress[exchange.number] = exchange
        setup = self._setup
        if setup.patience_seconds < NEVER_SECONDS:
            at = now + setup.patience_seconds
            self._events.add(at, self._lose_patience, exchange)
        if setup.timeout_seconds < NEVER_SECONDS:
            self._events.add(now + setup.timeout_seconds, self._time_out, exchange)
        exchange.arrive(now)

    def _lose_patience(self, exchange: Exchange, now: float) -> None:
        if not exchange.has_begun:
            exchange.leave(now, is_late=False)

    def _time_out(self, exchange: Exchange, now: float) -> None:
        exchange.leave(now, is_late=True)

    def _prefill_factor(self) -> float:
        spread = self._setup.misprediction
        return self._noise.uniform(1 - spread, 1 + spread) if spread else 1.0

    def _end(self, exchange: Exchange, served: Served) -> None:
        del self._in_progress[exchange.number]
        self._served.append(served)
        self._ended_at = self._events.now

    def _sample(self, now: float) -> None:
        """Look at what is pending where, and again later while there are requests."""
        prefilling = self.cluster.prefilling()
        pending: dict[str, float] = {}
        for router in self._routers:
            for counts in router.snapshot().workers:
                worker_id = counts.worker_id
                if worker_id in prefilling:
                    pending[worker_id] = pending.get(worker_id, 0.0) + counts.pending_tokens
        self._samples.take(pending)
        is_full = len(self._samples.pending_tokens) == MOST_SAMPLES
        if not is_full and (self._has_more or self._in_progress):
            self._events.add(now + self._setup.sample_seconds, self._sample)
