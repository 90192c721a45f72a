"""Engines that are simpler than any: one that only prefills, and one that takes no time."""

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from itertools import takewhile

from twofold_sim.engine_model import EngineCounts, Event, Job
from twofold_sim.workloads import BLOCK_TOKENS


@dataclass(slots=True)
class TimedJob(Job):
    """A job whose prompt takes more or less time than its tokens say."""

    prefill_factor: float = 1.0


class SerialEngine:
    """Implements EngineModel for prefills alone: computes prompts in the order they come, each at
    so many seconds a token, and tells of it at the end.

    A job's blocks are those of its ``Prompt``, the last of which may be part of one. They are in
    the cache as soon as the job is taken in, since whoever comes later is computed later. The least
    recently used block goes first. Nothing is ever lent, because nobody decodes.
    """

    def __init__(self, seconds_per_token: float, cache_tokens: int) -> None:
        self._seconds_per_token = seconds_per_token
        self._capacity_blocks = cache_tokens // BLOCK_TOKENS
        self._cache: OrderedDict[Hashable, None] = OrderedDict()
        self._jobs: deque[tuple[float, Job, int]] = deque()
        """When each ends, and how many of its tokens were cached; in order."""
        self._aborted: set[str] = set()
        self._busy_until = 0.0
        self._prompt_tokens = 0
        self._hit_tokens = 0

    def add(self, job: Job, now: float) -> None:
        cache = self._cache
        found_count = sum(1 for _ in takewhile(cache.__contains__, job.block_ids))
        cached_tokens = min(found_count * BLOCK_TOKENS, job.prompt_tokens - 1)
        seconds = (job.prompt_tokens - cached_tokens) * self._seconds_per_token
        factor = job.prefill_factor if isinstance(job, TimedJob) else 1.0
        self._busy_until = max(now, self._busy_until) + seconds * factor
        # From the last to the first, so that a prefix is evicted from its end.
        for block_id in reversed(job.block_ids):
            cache[block_id] = None
            cache.move_to_end(block_id)
        while len(cache) > self._capacity_blocks:
            cache.popitem(last=False)
        self._jobs.append((self._busy_until, job, cached_tokens))
        self._prompt_tokens += job.prompt_tokens
        self._hit_tokens += cached_tokens

    def abort(self, job_id: str, now: float) -> None:
        """Forget a job. The engine has its time all the same."""
        if any(job.job_id == job_id for _, job, _ in self._jobs):
            self._aborted.add(job_id)

    def release(self, job_id: str, now: float) -> None:
        pass

    def next_at(self) -> float | None:
        return self._jobs[0][0] if self._jobs else None

    def advance(self, now: float) -> list[Event]:
        events: list[Event] = []
        while self._jobs and self._jobs[0][0] <= now:
            at, job, cached_tokens = self._jobs.popleft()
            if job.job_id in self._aborted:
                self._aborted.remove(job.job_id)
                continue
            events.append(Event(at, job.job_id, "first-token", 1, cached_tokens))
            events.append(Event(at, job.job_id, "finished", 1))
        return events

    def counts(self) -> EngineCounts:
        count = len(self._jobs)
        return EngineCounts(
            running=min(count, 1),
            waiting=max(count - 1, 0),
            kv_used_fraction=0.0,
            preemptions=0,
            prompt_tokens=self._prompt_tokens,
            generated_tokens=0,
            prefix_queries=self._prompt_tokens,
            prefix_hits=self._hit_tokens,
        )


class InstantEngine:
    """Implements EngineModel for the one that prefills are handed over to where only they count:
    every job ends as it begins."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []
        self._now = 0.0

    def add(self, job: Job, now: float) -> None:
        self._jobs.append(job)
        self._now = now

    def abort(self, job_id: str, now: float) -> None:
        self._jobs = [job for job in self._jobs if job.job_id != job_id]

    def release(self, job_id: str, now: float) -> None:
        pass

    def next_at(self) -> float | None:
        return self._now if self._jobs else None

    def advance(self, now: float) -> list[Event]:
        jobs, self._jobs = self._jobs, []
        events: list[Event] = []
        for job in jobs:
            events.append(Event(now, job.job_id, "first-token", 1))
            events.append(Event(now, job.job_id, "finished", job.output_tokens))
        return events

    def counts(self) -> EngineCounts:
        return EngineCounts(
            running=len(self._jobs),
            waiting=0,
            kv_used_fraction=0.0,
            preemptions=0,
            prompt_tokens=0,
            generated_tokens=0,
            prefix_queries=0,
            prefix_hits=0,
        )
