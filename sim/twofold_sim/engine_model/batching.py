"""An engine in time: what its scheduler plans takes as long as its profile says."""

from collections.abc import Callable

from twofold_sim.engine_model.arriving import Arrivals
from twofold_sim.engine_model.blocks import BlockPool
from twofold_sim.engine_model.errors import JobTooLargeError
from twofold_sim.engine_model.interface import BlocksEvent, EngineCounts, Event, Job
from twofold_sim.engine_model.runs import Run
from twofold_sim.engine_model.scheduling import Scheduler, Step
from twofold_sim.engine_model.sequence import Sequence, State
from twofold_sim.engine_model.sequence_blocks import SequenceBlocks
from twofold_sim.profiles.profile import Profile


class BatchingEngine:
    """An ``EngineModel``: what a scheduler decides, and the time that a profile says it takes.

    Time passes in steps. A step that has begun ends as it was planned, whoever comes or goes. What
    is added at the moment when a step ends is in the next, unless ``next_at`` was asked since: it
    is ``next_at``, or a later time in any call, that begins a step.

    A step computes one token for each sequence that decodes, then goes on with the prefill that was
    cut off by ``max_batched_tokens``, then admits those that wait, first those whose blocks have
    been fetched, then in the order of coming. A sequence is admitted when there are free blocks for
    all its tokens so far, but takes them only as they are computed. When a running one wants a
    block and none is free, the last of those that run is preempted: it gives all of its blocks back
    and waits as the first, to compute again what it had. Nobody is admitted in such a step.

    Blocks of a prompt are in the prefix cache from the beginning of the step that computes them, as
    in vLLM, where the others in the same batch may share them; those that are fetched, when they
    are here. A fetch begins and takes its blocks at the beginning of a step. The profile's
    ``request_seconds`` pass before a job is queued.

    The events of one moment come in the order of the batch; of one sequence ``first-token`` or
    ``tokens``, then ``finished``. ``preempted`` comes at the beginning of a step, after what
    happened at the end of the one before. A job that was preempted tells its first token only once.

    *on_blocks* is called at the moment of a change, with ``tells_each_token``; otherwise removals
    may be told late, when a run of steps is over, but in order.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        tells_each_token: bool = False,
        on_blocks: Callable[[BlocksEvent], None] | None = None,
    ) -> None:
        self._profile = profile
        self._tells_each_token = tells_each_token
        pool = BlockPool(profile.kv_capacity_tokens // profile.block_tokens, on_blocks)
        self._blocks = SequenceBlocks(pool, profile.block_tokens)
        self._scheduler = Scheduler(profile, self._blocks)
        self._sequences: dict[str, Sequence] = {}
        self._arriving = Arrivals(State.ARRIVING)
        self._run: Run | None = None
        self._counted_steps = 0
        """Of the run; those that have their blocks and are counted by ``Decoding``."""
        self._ending_prefills: list[Sequence] = []
        """Those whose prefill ends with the run."""
        self._due_at: float | None = None
        """When the next step begins, if none goes on and there may be work for one."""
        self._now = 0.0
        self._events: list[Event] = []
        self._kept_count = 0
        self._preemptions = 0
        self._prompt_tokens = 0
        self._generated_tokens = 0

    def add(self, job: Job, now: float) -> None:
        """Queue *job*. Its id must be new.

        Raises:
            JobTooLargeError: it never fits.
        """
        assert job.job_id not in self._sequences, job.job_id
        assert job.prompt_tokens > 0, job
        assert job.output_tokens > 0, job
        self._check_size(job)
        self._pass_time(now)
        sequence = Sequence(job, self._profile.block_tokens)
        self._sequences[job.job_id] = sequence
        if self._profile.request_seconds > 0.0:
            ready_at = now + self._profile.request_seconds
            self._arriving.add(sequence, ready_at)
            if self._run is not None:
                self._run.cut(ready_at)
        else:
            self._scheduler.queue(sequence)
            self._wake(now)

    def abort(self, job_id: str, now: float) -> None:
        """Forget a job, whatever its state; nothing happens if it is not known.

        Its blocks are free at once, also when the step that it is in goes on.
        """
        self._pass_time(now)
        sequence = self._sequences.pop(job_id, None)
        if sequence is None:
            return
        self._count_until(now)
        if sequence.state is State.KEPT:
            self._kept_count -= 1
        elif sequence.state is State.DECODING and self._run is not None:
            self._run.cut(now)
            self._generated_tokens += self._run.step_count - 1
        self._scheduler.withdraw(sequence)
        self._blocks.give_back(sequence)
        self._wake(now)

    def release(self, job_id: str, now: float) -> None:
        """Give back the blocks that a finished job kept; nothing happens if it is not known."""
        self._pass_time(now)
        sequence = self._sequences.get(job_id)
        if sequence is not None and sequence.state is State.KEPT:
            del self._sequences[job_id]
            sequence.state = State.GONE
            self._kept_count -= 1
            self._count_until(now)
            self._blocks.give_back(sequence)
            self._wake(now)

    def next_at(self) -> float | None:
        """Return when something happens next if nobody calls; None if nothing does.

        A step that is due begins now, with what has been added.
        """
        if self._due_at is not None:
            self._begin_step(self._due_at)
        if self._run is not None:
            return self._run.ends_at
        return self._next_arrival_at()

    def advance(self, now: float) -> list[Event]:
        """Let the time pass until *now*, and return what happened, in order."""
        self._pass_time(now)
        events = self._events
        if events:
            self._events = []
        return events

    @property
    def is_computing(self) -> bool:
        """Tell whether a step has begun and not ended; one that is due begins by ``next_at``."""
        return self._run is not None

    def counts(self) -> EngineCounts:
        """Return the counts as they are after what has been told by ``advance``; but blocks are
        used from the beginning of the step that fills them."""
        self._count_until(self._now)
        scheduler, pool = self._scheduler, self._blocks.pool
        steps_over = 0
        if self._run is not None:
            begun = self._run.begun_by(self._now)
            steps_over = begun - (self._now < self._run.end_of(begun))
        running = len(scheduler.running)
        return EngineCounts(
            running=running,
            waiting=len(self._sequences) - self._kept_count - running,
            kv_used_fraction=pool.lent_count / max(pool.block_count, 1),
            preemptions=self._preemptions,
            prompt_tokens=self._prompt_tokens,
            generated_tokens=self._generated_tokens + steps_over * scheduler.decoding.count,
            prefix_queries=scheduler.prefix_queries,
            prefix_hits=scheduler.prefix_hits,
        )

    def _check_size(self, job: Job) -> None:
        tokens = job.prompt_tokens + job.output_tokens
        if tokens > self._profile.max_model_tokens:
            raise JobTooLargeError(
                f"{job.prompt_tokens} + {job.output_tokens} tokens, more than the model's "
                f"{self._profile.max_model_tokens}"
            )
        wanted = self._blocks.count_for(tokens - 1)  # the last token is not computed on
        block_count = self._blocks.pool.block_count
        if wanted > block_count:
            raise JobTooLargeError(f"{wanted} blocks, and the engine has {block_count}")

    def _pass_time(self, now: float) -> None:
        while True:
            if self._run is not None:
                if self._run.ends_at > now:
                    break
                self._end_run(self._run)
            elif self._due_at is not None:
                if self._due_at >= now:
                    break
                self._begin_step(self._due_at)
            else:
                at = self._next_arrival_at()
                if at is None or at > now:
                    break
                self._due_at = at
        self._now = max(self._now, now)

    def _next_arrival_at(self) -> float | None:
        arriving, fetching = self._arriving.next_at(), self._scheduler.fetching.next_at()
        if arriving is None or fetching is None:
            return fetching if arriving is None else arriving
        return min(arriving, fetching)

    def _wake(self, at: float) -> None:
        """Let a step begin at *at*, or after the one that goes on, if there may be work for it."""
        if self._run is not None:
            if self._scheduler.has_waiting:
                self._run.cut(at)
        elif self._due_at is None:
            self._due_at = at

    def _count_until(self, at: float) -> None:
        """Take the blocks of the run's steps that have begun, and count these."""
        if self._run is not None:
            self._count_steps(self._run.begun_by(at))

    def _count_steps(self, step_count: int) -> None:
        if step_count > self._counted_steps:
            self._scheduler.count_steps(step_count - self._counted_steps)
            self._counted_steps = step_count

    def _end_run(self, run: Run) -> None:
        self._count_steps(run.step_count)
        self._generated_tokens += run.step_count * self._scheduler.decoding.count
        at = run.ends_at
        self._run = None
        self._due_at = at
        if self._tells_each_token and self._scheduler.decoding.count:
            self._tell_tokens(at)
        else:
            for sequence in self._scheduler.decoding.take_ended():
                self._finish(sequence, at)
        for sequence in self._ending_prefills:
            if sequence.state is State.PREFILLING:
                self._end_prefill(sequence, at)
        self._ending_prefills = []

    def _tell_tokens(self, at: float) -> None:
        ended = {
            sequence.job.job_id: sequence for sequence in self._scheduler.decoding.take_ended()
        }
        for job_id, sequence in list(self._scheduler.running.items()):
            if sequence.state is State.DECODING:
                count = self._scheduler.decoding.generated(sequence)
                self._events.append(Event(at, job_id, "tokens", count))
            elif job_id in ended:
                self._events.append(Event(at, job_id, "tokens", sequence.generated_count))
                self._finish(sequence, at)

    def _end_prefill(self, sequence: Sequence, at: float) -> None:
        job = sequence.job
        sequence.generated_count += 1
        self._generated_tokens += 1
        if sequence.generated_count == 1:
            self._prompt_tokens += job.prompt_tokens
            self._events.append(
                Event(
                    at,
                    job.job_id,
                    "first-token",
                    1,
                    sequence.cached_tokens,
                    sequence.fetched_tokens,
                )
            )
        elif self._tells_each_token:
            self._events.append(Event(at, job.job_id, "tokens", sequence.generated_count))
        if sequence.generated_count == job.output_tokens:
            self._finish(sequence, at)
        else:
            self._scheduler.decoding.join(sequence, sequence.target_tokens)

    def _finish(self, sequence: Sequence, at: float) -> None:
        job = sequence.job
        del self._scheduler.running[job.job_id]
        self._events.append(Event(at, job.job_id, "finished", sequence.generated_count))
        if job.keeps_blocks:
            sequence.state = State.KEPT
            self._kept_count += 1
            return
        sequence.state = State.GONE
        del self._sequences[job.job_id]
        self._blocks.give_back(sequence)

    def _begin_step(self, at: float) -> None:
        self._due_at = None
        for sequence in self._arriving.take_ready(at):
            self._scheduler.queue(sequence)
        if not self._sequences:
            return
        step = self._scheduler.plan(at)
        for sequence in step.preempted:
            self._preemptions += 1
            self._events.append(
                Event(at, sequence.job.job_id, "preempted", sequence.generated_count)
            )
        if step.prefill_tokens:
            self._begin_mixed(step, at)
        elif self._scheduler.decoding.count:
            self._begin_decoding(step, at)

    def _begin_mixed(self, step: Step, at: float) -> None:
        self._counted_steps = int(step.is_counted)
        self._count_steps(1)
        decoding = self._scheduler.decoding
        seconds = self._profile.steps.seconds(
            step.prefill_tokens, step.prefill_pairs, decoding.count, decoding.context_tokens
        )
        self._run = Run(at, seconds)
        self._ending_prefills = step.ending_prefills

    def _begin_decoding(self, step: Step, at: float) -> None:
        decoding, costs = self._scheduler.decoding, self._profile.steps
        count, context_tokens = decoding.count, decoding.context_tokens
        if not step.is_counted:
            context_tokens += count  # as it is when the step is counted
        first = costs.seconds(sequence_count=count, context_tokens=context_tokens)
        self._counted_steps = int(step.is_counted)
        if self._tells_each_token or step.is_counted:
            self._count_steps(1)
            self._run = Run(at, first)
            return
        steps = decoding.steps_with(self._blocks.pool.free_count, decoding.steps_to_end())
        self._run = Run(at, first, costs.per_context_token * count, steps)
        arrival_at = self._next_arrival_at()
        if arrival_at is not None:
            self._run.cut(arrival_at)
