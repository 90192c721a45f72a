"""A worker in virtual time: one incarnation, its engine, and what it has in hand."""

from collections import deque
from collections.abc import Callable
from typing import Literal, Protocol

import msgspec

from twofold_cluster.identity import Role
from twofold_cluster.worker import Load, Worker, WorkerState
from twofold_sim.engine_model import EngineCounts, EngineModel, Event, Job, JobTooLargeError
from twofold_sim.virtual.events import EventQueue

MAX_UNPREFILLED = 64
MAX_IN_FLIGHT = 256
"""Requests that a worker admits, by its role: what the live workers' settings say."""

SAMPLE_COUNT = 32
"""Prefills in the median speed that is announced, as the live workers have it."""

Failure = Literal["refused", "unreachable", "broken", "failed", "rejected"]
"""As ``gateway.verdicts`` has it: the worker did not begin; nobody is there; it died meanwhile; it
cannot go on, but lives; nobody else would take the request either."""


class Leg:
    """What one worker is asked for by one request."""

    __slots__ = ("asker", "at", "began_at", "first_token_at", "generated_tokens", "job")

    def __init__(self, job: Job, asker: "Asker") -> None:
        self.job = job
        self.asker = asker
        self.at: VirtualWorker | None = None
        """Where it is being done, or its blocks are kept."""
        self.began_at = 0.0
        self.first_token_at: float | None = None
        self.generated_tokens = 0
        """When it broke: about as many as an engine that is as full makes in the time."""


class Asker(Protocol):
    """Whoever asked for a leg. Told of its end once: that it has ended, or that it has failed."""

    def first_token(self, leg: Leg, event: Event, now: float) -> None: ...

    def leg_ended(self, leg: Leg, now: float) -> None: ...

    def leg_failed(self, leg: Leg, failure: Failure, now: float) -> None: ...

    def source_died(self, leg: Leg, now: float) -> None:
        """Take note that the blocks that an ended *leg* had kept are gone."""
        ...


class VirtualWorker:
    """One incarnation of a worker.

    Invariant: ``_legs`` are those that were begun here and have not ended; ``_kept`` those that
    ended and whose blocks are lent until they are released; ``unprefilled_count`` is the number of
    the former that have no first token yet. A dead worker has none, and nothing happens to it.
    """

    def __init__(
        self,
        worker: Worker,
        engine: EngineModel,
        events: EventQueue,
        changed: Callable[["VirtualWorker", float], None],
        step_seconds: Callable[[EngineCounts], float],
    ) -> None:
        """*changed* is told whenever the load has, and when the last leg of a leaving worker has
        ended. *step_seconds* is what a token takes in an engine with such counts."""
        self.worker = worker
        """As it announces itself, but for the load."""
        self.engine = engine
        self.unprefilled_count = 0
        self.is_alive = True
        self._events = events
        self._changed = changed
        self._step_seconds = step_seconds
        self._legs: dict[str, Leg] = {}
        self._kept: dict[str, Leg] = {}
        self._wakes_at: float | None = None
        self._is_arming = False
        self._speeds: deque[float] = deque(maxlen=SAMPLE_COUNT)
        self._prefilled_at = 0.0

    @property
    def is_idle(self) -> bool:
        return not self._legs and not self._kept

    def ask(self, leg: Leg, now: float) -> Failure | None:
        """Begin *leg*, or say why not."""
        if not self._admits():
            return "refused"
        job = leg.job
        # What is over by now is over before this begins.
        self._advance(now)
        if not self.is_alive:
            return "broken"
        try:
            self.engine.add(job, now)
        except JobTooLargeError:
            return "rejected"
        assert job.job_id not in self._legs, job.job_id
        self._legs[job.job_id] = leg
        leg.at = self
        leg.began_at = now
        self.unprefilled_count += 1
        self._wake_later(now)
        self._changed(self, now)
        return None

    def abort(self, leg: Leg, now: float) -> None:
        """Stop *leg*; nobody is told."""
        job_id = leg.job.job_id
        if self._legs.pop(job_id, None) is None:
            return
        self.unprefilled_count -= leg.first_token_at is None
        self.engine.abort(job_id, now)
        self._wake_later(now)
        self._changed(self, now)

    def release(self, leg: Leg, now: float) -> None:
        """Give back the blocks that *leg* has kept. Nothing happens if they are gone."""
        job_id = leg.job.job_id
        if self._kept.pop(job_id, None) is not None:
            self.engine.release(job_id, now)
            self._wake_later(now)
            self._changed(self, now)

    def drain(self, now: float) -> None:
        """Take nothing new."""
        self.worker = msgspec.structs.replace(self.worker, state=WorkerState.DRAINING)
        self._changed(self, now)

    def die(self, now: float) -> None:
        """Break all that is in hand."""
        self.is_alive = False
        step_seconds = self._step_seconds(self.engine.counts())
        legs, self._legs = list(self._legs.values()), {}
        kept, self._kept = list(self._kept.values()), {}
        self.unprefilled_count = 0
        for leg in legs:
            if leg.first_token_at is not None:
                steps = int((now - leg.first_token_at) / step_seconds) if step_seconds else 0
                leg.generated_tokens = min(1 + steps, leg.job.output_tokens)
            leg.asker.leg_failed(leg, "broken", now)
        for leg in kept:
            leg.asker.source_died(leg, now)

    def announcement(self) -> Worker:
        """Return the worker with its load as it is now."""
        counts = self.engine.counts()
        speeds = sorted(self._speeds)
        load = Load(
            running_count=counts.running,
            waiting_count=counts.waiting,
            unprefilled_count=self.unprefilled_count,
            kv_used_fraction=round(counts.kv_used_fraction, 3),
            seconds_per_prefill_token=speeds[len(speeds) // 2] if speeds else None,
        )
        return msgspec.structs.replace(self.worker, load=load)

    def _admits(self) -> bool:
        if self.worker.state is WorkerState.DRAINING:
            return False
        match self.worker.role:
            case Role.PREFILL:
                return self.unprefilled_count < MAX_UNPREFILLED
            case Role.DECODE:
                return len(self._legs) < MAX_IN_FLIGHT
            case Role.BOTH:
                return True

    def _wake(self, now: float) -> None:
        if self._wakes_at == now and self.is_alive:
            self._wakes_at = None
            self._advance(now)
            self._wake_later(now)

    def _wake_later(self, now: float) -> None:
        """Have the engine go on when something happens in it next. It is asked when this moment is
        over: what begins in one moment may be one step."""
        if not self._is_arming:
            self._is_arming = True
            self._events.add(now, self._arm)

    def _arm(self, now: float) -> None:
        self._is_arming = False
        at = self.engine.next_at()
        if at is not None:
            at = max(at, now)
            if at != self._wakes_at:
                self._events.add(at, self._wake)
        self._wakes_at = at

    def _advance(self, now: float) -> None:
        events = self.engine.advance(now)
        for event in events:
            leg = self._legs.get(event.job_id)
            if leg is None:
                continue
            if event.kind == "first-token":
                self._has_prefilled(leg, event, now)
                leg.asker.first_token(leg, event, now)
            elif event.kind == "finished":
                del self._legs[event.job_id]
                if leg.job.keeps_blocks:
                    self._kept[event.job_id] = leg
                leg.asker.leg_ended(leg, now)
        if events:
            self._changed(self, now)

    def _has_prefilled(self, leg: Leg, event: Event, now: float) -> None:
        leg.first_token_at = now
        self.unprefilled_count -= 1
        computed_tokens = leg.job.prompt_tokens - event.cached_tokens - event.fetched_tokens
        seconds = now - max(leg.began_at, self._prefilled_at)
        self._prefilled_at = now
        if seconds > 0 and computed_tokens >= 16:
            self._speeds.append(seconds / computed_tokens)
