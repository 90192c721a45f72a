"""Simulated engines on one machine, which take its processors from each other.

The simulator gives each engine a machine of its own, as a cluster does. Two engines that share the
cores of a benchmark are slower while both compute.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from twofold_sim.engine_model import BatchingEngine, Event, Job


class SharedMachine:
    """Engines by number, and one time for all of them.

    Each engine has a clock, in which its steps take what its profile says. While another computes
    too it goes *slowdown* times as slowly as the machine's.
    """

    def __init__(self, engines: Sequence[BatchingEngine], slowdowns: Sequence[float]) -> None:
        """*slowdowns*: one for each engine."""
        self._engines = engines
        self._slowdowns = slowdowns
        self._clocks = [0.0] * len(engines)
        self._now = 0.0
        self._events: list[tuple[int, Event]] = []

    def add(self, number: int, job: Job, now: float) -> None:
        """Queue *job* at an engine. Its id must be new there."""
        self._pass_time(now)
        self._engines[number].add(job, self._clocks[number])

    def release(self, number: int, job_id: str, now: float) -> None:
        """Give back the blocks that a finished job kept."""
        self._pass_time(now)
        self._engines[number].release(job_id, self._clocks[number])

    def next_at(self) -> float:
        """Return when something happens next if nobody calls, or infinity."""
        return min(self._now + seconds for seconds in self._seconds_to_next())

    def advance(self, now: float) -> list[tuple[int, Event]]:
        """Let the time pass until *now*; return what happened since the last call, each with the
        number of the engine."""
        self._pass_time(now)
        events, self._events = self._events, []
        return events

    def _pass_time(self, now: float) -> None:
        self._take_events()
        while self._now + (seconds := min(self._seconds_to_next())) <= now:
            self._step(seconds)
            self._take_events()
        if self._now < now:
            self._step(now - self._now)
            self._now = now

    def _step(self, seconds: float) -> None:
        """Let *seconds* pass, in which nothing happens but at their end."""
        paces = self._paces()
        waits = self._seconds_to_next()
        self._now += seconds
        for number, engine in enumerate(self._engines):
            if waits[number] == seconds:
                # As it says itself: a sum of parts may be less by what was rounded, and then what
                # is due would never come.
                self._clocks[number] = _next_at(engine)
            else:
                self._clocks[number] += seconds / paces[number]

    def _take_events(self) -> None:
        for number, engine in enumerate(self._engines):
            for event in engine.advance(self._clocks[number]):
                self._events.append((number, replace(event, at=self._now)))

    def _seconds_to_next(self) -> list[float]:
        """Return how long it is until something happens at each engine, if all stays as it is."""
        return [
            (_next_at(engine) - clock) * pace
            for engine, clock, pace in zip(self._engines, self._clocks, self._paces(), strict=True)
        ]

    def _paces(self) -> list[float]:
        """Return the seconds that a second of each engine's clock takes."""
        for engine in self._engines:
            engine.next_at()  # what is due begins
        computing = [engine.is_computing for engine in self._engines]
        return [
            slowdown if is_computing and sum(computing) > 1 else 1.0
            for is_computing, slowdown in zip(computing, self._slowdowns, strict=True)
        ]


def _next_at(engine: BatchingEngine) -> float:
    at = engine.next_at()
    return math.inf if at is None else at
