"""An engine model in real time: it is asked what has happened when something has."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from twofold_sim.engine_model import EngineCounts, EngineModel, Event, Job

_LATE_SECONDS = 0.0005
"""A timer may fire early by half of a loop's millisecond, and would find that nothing is over."""


class OnEvent(Protocol):
    def __call__(self, event: Event, /) -> None: ...


class Driver:
    """Owns a model and its clock, which runs *speed* times as fast as the loop's.

    Every job's events go to its own listener, until its last one or until it is aborted. A listener
    may abort and release, but not add. ``on_change`` is called soon after any change, once for all
    of one turn of the loop.
    """

    def __init__(
        self, model: EngineModel, speed: float, on_change: Callable[[], None] = lambda: None
    ) -> None:
        self._model = model
        self._speed = speed
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._began_at = self._loop.time()
        """On the loop's clock, when the model's was at ``_model_began_at``."""
        self._model_began_at = 0.0
        self._listeners: dict[str, OnEvent] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._is_telling = False
        self._settling: asyncio.Handle | None = None
        self._is_closed = False

    @property
    def speed(self) -> float:
        return self._speed

    def set_speed(self, speed: float) -> None:
        """Run *speed* times as fast as the loop from now on."""
        self._model_began_at, self._began_at = self.now(), self._loop.time()
        self._speed = speed
        self._settle()

    def now(self) -> float:
        """Return the model's time, in seconds."""
        return self._model_began_at + (self._loop.time() - self._began_at) * self._speed

    def counts(self) -> EngineCounts:
        return self._model.counts()

    def replace(self, model: EngineModel) -> None:
        """Go on with another *model* instead of one that has nothing to do."""
        assert not self._listeners, "a job would be lost"
        self._model = model
        self._settle()

    def add(self, job: Job, listener: OnEvent) -> None:
        """Queue *job*.

        Raises:
            JobTooLargeError: it never fits.
        """
        assert not self._is_telling, "a listener adds no job"
        now = self._advance()
        self._listeners[job.job_id] = listener
        try:
            self._model.add(job, now)
        except BaseException:
            del self._listeners[job.job_id]
            raise
        finally:
            self._settle()

    def abort(self, job_id: str) -> None:
        """Forget a job, whatever its state."""
        self._listeners.pop(job_id, None)
        self._model.abort(job_id, self._advance())
        self._settle()

    def release(self, job_id: str) -> None:
        """Give back the blocks that a finished job has kept."""
        self._model.release(job_id, self._advance())
        self._settle()

    def close(self) -> None:
        """Let no time pass any more."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._listeners.clear()

    def _wake(self) -> None:
        self._timer = None
        self._advance()
        self._settle_now()

    def _advance(self) -> float:
        """Let the model's time pass until now, and return it."""
        now = self.now()
        if self._is_telling:
            return now
        self._is_telling = True
        try:
            for event in self._model.advance(now):
                listener = self._listeners.get(event.job_id)
                if listener is None:
                    continue
                if event.kind == "finished":
                    del self._listeners[event.job_id]
                listener(event)
        finally:
            self._is_telling = False
        return now

    def _settle(self) -> None:
        if self._settling is None:
            self._settling = self._loop.call_soon(self._settle_now)

    def _settle_now(self) -> None:
        self._settling = None
        if not self._is_closed:
            self._schedule()
            self._on_change()

    def _schedule(self) -> None:
        """Wake when something happens next. To ask for it begins a step that is due."""
        next_at = self._model.next_at()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if next_at is not None:
            wait_seconds = max(0.0, (next_at - self.now()) / self._speed)
            self._timer = self._loop.call_later(wait_seconds + _LATE_SECONDS, self._wake)
