"""What the router knows of one incarnation of a worker, and what it has there."""

import math

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.worker import Worker
from twofold_router.placement.block_index import BlockIndex
from twofold_router.placement.coming import Coming
from twofold_router.placement.decode_choice import answer_seconds
from twofold_router.placement.interface import WorkerCounts
from twofold_router.placement.mirror import CacheMirror
from twofold_router.placement.models import ModelStatistics
from twofold_router.placement.orders import Order
from twofold_router.placement.past_future import RunningBatch
from twofold_router.placement.prefill_meter import PrefillMeter
from twofold_router.placement.prefill_speed import PrefillSpeed
from twofold_router.placement.prefixes import Blocks
from twofold_router.placement.pull_speed import PullSpeed
from twofold_router.placement.step_times import StepTimes
from twofold_router.placement.waiting import Waiting

MOST_RESERVED = 0.25
"""Of the time that a request can spare, so much at most is kept in reserve: where predictions are
worse than that, planning for them would leave nobody a place."""

Life = tuple[WorkerId, Incarnation]
"""A worker's id and which of its lives."""

Party = tuple[str, str, str]
"""What is asked for (a model, or an adapter of it), revision and compatibility: workers pair only
within one."""

Circle = tuple[str, str, str, int]
"""Service, revision, compatibility and tensor parallelism: workers fetch prefixes from each other
only within one."""


class Account:
    """One incarnation: its cache, its speed, who waits for it, and what is dispatched to it.

    Invariant: ``queued_tokens`` is the sum over ``queue`` and ``queued`` has its blocks,
    ``unprefilled_tokens`` and ``computing`` have those of ``unprefilled``; ``decoding`` is the
    number of dispatched requests that name this account for their decode; ``guests`` are those who
    wait elsewhere with this account among their candidates.
    """

    __slots__ = (
        "batch",
        "blocks",
        "busy_since",
        "circle",
        "computing",
        "decoding",
        "guests",
        "is_ready",
        "last_turn",
        "meter",
        "mirror",
        "pull_speed",
        "queue",
        "queued",
        "queued_tokens",
        "speed",
        "statistics",
        "step_times",
        "told_at",
        "unprefilled",
        "unprefilled_tokens",
        "worker",
    )

    def __init__(
        self, worker: Worker, queue: Order, statistics: ModelStatistics, now: float
    ) -> None:
        self.worker = worker
        self.circle = circle_of(worker)
        """Kept, because the choice asks for it again and again."""
        self.is_ready = False
        """True while the worker takes new requests."""
        self.mirror = CacheMirror(worker.kv_capacity_tokens, worker.kv_block_tokens)
        self.blocks = BlockIndex(self.mirror, worker.kv_block_tokens, worker.kv_capacity_tokens)
        self.statistics = statistics
        self.speed = PrefillSpeed(statistics.prefill_speed)
        self.meter = PrefillMeter(self.speed)
        self.pull_speed = PullSpeed(statistics.pull_speed)
        self.queue = queue
        self.queued = Coming()
        self.queued_tokens = 0.0
        self.guests: dict[int, Waiting] = {}
        """By serial."""
        self.unprefilled: dict[str, tuple[float, Blocks]] = {}
        """Uncached tokens and blocks of each request dispatched here and not prefilled."""
        self.computing = Coming()
        self.unprefilled_tokens = 0.0
        self.busy_since = 0.0
        """When the first of them came to be computed."""
        self.told_at = -math.inf
        """When somebody last told that a prompt was computed here."""
        self.batch = RunningBatch(statistics.output_lengths.predict_beyond, now)
        self.step_times = StepTimes(statistics.step_times)
        self.decoding = 0
        self.last_turn = 0

    def uncached_tokens(self, waiting: Waiting) -> float:
        """Return how many tokens of *waiting* would be computed here after all that is dispatched
        here; at least the last one."""
        return self._uncached_tokens(waiting, in_turn=False)

    def uncached_tokens_in_turn(self, waiting: Waiting) -> float:
        """Return the same for when all are computed who wait here as well."""
        return self._uncached_tokens(waiting, in_turn=True)

    def work_tokens(self, waiting: Waiting, uncached_tokens: float) -> float:
        """Return how many tokens could be computed here in the time that *uncached_tokens* of
        *waiting* take: all of them, less what is won by fetching those that a peer holds, where
        that is quicker as far as it was measured."""
        held = waiting.held_tokens
        if not held or self.circle is None:
            return uncached_tokens
        own_tokens = waiting.prompt_tokens - uncached_tokens
        pulled_tokens = min(held.get(self.circle, 0) - own_tokens, uncached_tokens - 1)
        if pulled_tokens <= 0 or pulled_tokens < self.least_pulled_tokens(waiting):
            return uncached_tokens
        pulling = self.pull_speed.seconds_per_token
        if pulling is None:
            return uncached_tokens
        spared_share = 1 - pulling / self.speed.seconds_per_token
        return uncached_tokens - pulled_tokens * max(spared_share, 0.0)

    def least_pulled_tokens(self, waiting: Waiting) -> float:
        """Return by how much a peer's prefix must be longer than the own to be worth naming: by one
        block of the key, as far as that is whole blocks of the engine."""
        tokens = waiting.block_tokens
        return max(tokens - tokens % max(self.worker.kv_block_tokens, 1), 1.0)

    def free_at(self, now: float) -> float:
        """Return when what is dispatched here is computed."""
        if not self.unprefilled_tokens:
            return now
        return max(now, self.busy_since + self.unprefilled_tokens * self.speed.seconds_per_token)

    def wait_seconds(self, now: float) -> float:
        """Return how long a newcomer would wait here."""
        computing = self.free_at(now) - now
        return computing + self.queue.ahead_seconds if self.queued_tokens else computing

    def ttft_seconds(self, waiting: Waiting, now: float) -> float:
        """Predict the time to the first token of *waiting* here (DESIGN, "Predicted TTFT")."""
        tokens = self.queued_tokens + self.uncached_tokens(waiting)
        return self.free_at(now) - now + tokens * self.speed.seconds_per_token

    def answer_seconds(self, waiting: Waiting, now: float) -> float:
        """Predict how long the answer of *waiting* takes here once its prompt is computed; 0 where
        it is decoded elsewhere."""
        if not self.worker.role.decodes:
            return 0.0
        output_tokens = self.statistics.output_lengths.predict(waiting.request.max_output_tokens)
        return answer_seconds(self, waiting.prompt_tokens, output_tokens, now)

    def due_at(self, waiting: Waiting, seconds: float) -> float:
        """Return when a prefill of *waiting* that takes *seconds* here is to be over, so that the
        first token comes in time.

        Under overload everybody is served on the verge of the deadline; without a reserve, a
        prediction that is a little too good would make all of them late.
        """
        spare = waiting.on_time_until - waiting.request.arrived_at - seconds
        reserve = min(self.statistics.lateness.seconds, MOST_RESERVED * max(spare, 0.0))
        return waiting.on_time_until - reserve

    def enqueue(self, waiting: Waiting, now: float) -> None:
        """Have *waiting* wait here."""
        waiting.at = self
        waiting.uncached_tokens = self.uncached_tokens(waiting)
        work_tokens = self.work_tokens(waiting, waiting.uncached_tokens)
        waiting.seconds = work_tokens * self.speed.seconds_per_token
        waiting.due_at = self.due_at(waiting, waiting.seconds)
        self.queue.add(waiting, now)
        self.queued.add(waiting.request.key.blocks)
        self.queued_tokens += waiting.uncached_tokens
        for other in waiting.candidates:
            if other is not self:
                other.guests[waiting.serial] = waiting

    def dequeue(self, waiting: Waiting) -> None:
        """Have *waiting* wait here no longer."""
        self.queue.remove(waiting)
        self.queued.remove(waiting.request.key.blocks)
        # Set to zero when it must be, so that rounding does not add up over days.
        self.queued_tokens = self.queued_tokens - waiting.uncached_tokens if self.queue else 0.0
        waiting.at = None
        for other in waiting.candidates:
            other.guests.pop(waiting.serial, None)

    def invite(self, waiting: Waiting) -> None:
        """Make this one of the candidates of *waiting*, who waits elsewhere."""
        waiting.candidates = (*waiting.candidates, self)
        self.guests[waiting.serial] = waiting

    def dismiss(self, guest: Waiting) -> None:
        """Be one of the candidates of *guest* no longer."""
        guest.candidates = tuple(home for home in guest.candidates if home is not self)
        del self.guests[guest.serial]

    def start_prefill(
        self, request_id: str, tokens: float, now: float, blocks: Blocks = ()
    ) -> None:
        """Count the work of *tokens* that was dispatched to here, for a prompt of *blocks*."""
        if not self.unprefilled:
            self.busy_since = now
        self.unprefilled[request_id] = (tokens, blocks)
        self.computing.add(blocks)
        self.unprefilled_tokens += tokens

    def end_prefill(self, request_id: str, now: float) -> float | None:
        """Count *request_id* no longer; return for how many seconds the worker had nobody else
        of ours to compute before it, None if it was not counted any more."""
        work = self.unprefilled.pop(request_id, None)
        if work is None:
            return None
        tokens, blocks = work
        self.computing.remove(blocks)
        self.unprefilled_tokens = self.unprefilled_tokens - tokens if self.unprefilled else 0.0
        seconds = now - self.busy_since
        self.busy_since = now
        return seconds

    def advance(self, now: float) -> None:
        """Let the time pass for those who decode here."""
        batch = self.batch
        batch.advance(now, self.step_times.predict(batch.count, batch.context_tokens, now))

    def _uncached_tokens(self, waiting: Waiting, *, in_turn: bool) -> float:
        """Return how many tokens of *waiting* are neither cached here nor computed before it."""
        key = waiting.request.key
        cached = self.mirror.cached_tokens(key)
        block_count = 0
        # Of an idle worker nothing else is looked at: with thousands of them, what a choice takes
        # is mostly the time to fetch them from memory.
        if self.unprefilled_tokens:
            block_count = self.computing.prefix_of(key.blocks)
        if in_turn and self.queued_tokens:
            block_count = max(block_count, self.queued.prefix_of(key.blocks))
        if block_count:
            share = block_count * key.block_bytes / key.size_bytes
            tokens = int(share * waiting.prompt_tokens)
            cached = max(cached, tokens - tokens % self.worker.kv_block_tokens)
        return max(waiting.prompt_tokens - cached, 1.0)

    def counts(self) -> WorkerCounts:
        return WorkerCounts(
            worker_id=self.worker.worker_id,
            queued=len(self.queue),
            unprefilled=len(self.unprefilled),
            decoding=self.decoding,
            pending_tokens=self.queued_tokens + self.unprefilled_tokens,
            mirrored_blocks=len(self.mirror),
            mirror_is=self.blocks.state,
        )


def life_of(worker: Worker) -> Life:
    return (worker.worker_id, worker.incarnation)


def party_of(worker: Worker, name: str) -> Party:
    """Return the party of *worker* for requests for *name*."""
    return (name, worker.revision, worker.engine.compatibility)


def circle_of(worker: Worker) -> Circle | None:
    """Return what *worker* has in common with those that can fetch prefixes from it; None if nobody
    can."""
    if not worker.kv_side_channel:
        return None
    engine = worker.engine
    return (worker.service, worker.revision, engine.compatibility, engine.tensor_parallel)
