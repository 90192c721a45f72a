"""Who is in the next step: in short what vllm/v1/core/sched/scheduler.py does (vLLM 0.32)."""

from collections import deque

from twofold_sim.engine_model.arriving import Arrivals
from twofold_sim.engine_model.decoding import Decoding
from twofold_sim.engine_model.sequence import Sequence, State
from twofold_sim.engine_model.sequence_blocks import SequenceBlocks
from twofold_sim.profiles.profile import Profile


class Step:
    """A step as it is planned."""

    __slots__ = (
        "budget",
        "ending_prefills",
        "is_counted",
        "preempted",
        "prefill_pairs",
        "prefill_tokens",
        "reserved_blocks",
    )

    def __init__(self, budget: int) -> None:
        self.budget = budget
        """Tokens that can be added."""
        self.prefill_tokens = 0
        self.prefill_pairs = 0.0
        self.ending_prefills: list[Sequence] = []
        self.preempted: list[Sequence] = []
        self.is_counted = False
        """Whether those that decode have the blocks for it already."""
        self.reserved_blocks = 0
        """The blocks for it if not."""


class Scheduler:
    """The queues of an engine, and its batch.

    Invariant: of those that run only the last may have a part of its prefill before it when a step
    ends. Who is cut off has taken all of the budget, so nobody was admitted after it.
    """

    def __init__(self, profile: Profile, blocks: SequenceBlocks) -> None:
        self._max_batched_tokens = profile.max_batched_tokens
        self._max_sequences = min(profile.max_sequences, profile.max_batched_tokens)
        self._transfer = profile.transfer
        self._blocks = blocks
        self._waiting: deque[Sequence] = deque()
        self._fetched: deque[Sequence] = deque()
        self._admissions = 0
        self._reserved_by_fetches = 0
        """Blocks that those that fetch will want beside those that they have."""
        self.fetching = Arrivals(State.FETCHING)
        self.running: dict[str, Sequence] = {}
        """In the order of admission."""
        self.decoding = Decoding(profile.block_tokens)
        self.prefix_queries = 0
        self.prefix_hits = 0

    @property
    def has_waiting(self) -> bool:
        return bool(self._waiting or self._fetched)

    def queue(self, sequence: Sequence) -> None:
        sequence.state = State.WAITING
        self._waiting.append(sequence)

    def withdraw(self, sequence: Sequence) -> None:
        """Take *sequence* out of the queues and the batch; its blocks are the caller's."""
        match sequence.state:
            case State.WAITING:
                self._waiting.remove(sequence)
            case State.FETCHED:
                self._fetched.remove(sequence)
            case State.FETCHING:
                self._reserved_by_fetches -= self._blocks.missing(sequence)
            case State.PREFILLING:
                del self.running[sequence.job.job_id]
            case State.DECODING:
                del self.running[sequence.job.job_id]
                self.decoding.leave(sequence)
            case _:
                pass
        sequence.state = State.GONE

    def plan(self, at: float) -> Step:
        """Plan the step that begins at *at*: preempt, admit, take the blocks of the prefills."""
        for sequence in self.fetching.take_ready(at):
            self._take_in_fetched(sequence)
        step = Step(self._max_batched_tokens)
        self._plan_running(step)
        if not step.preempted or not self.running:
            self._plan_waiting(step, at)
        return step

    def count_steps(self, step_count: int) -> None:
        """Take the blocks of the next steps for those that decode, and count the steps."""
        wanted = self.decoding.blocks_for(step_count)
        if wanted:
            self._blocks.pool.take(wanted)
        self.decoding.pass_steps(step_count)

    def _plan_running(self, step: Step) -> None:
        decoding, free = self.decoding, self._blocks.pool.free_count
        cut_off = self._cut_off()
        wanted = decoding.blocks_for(1)
        cut_off_wants = 0
        if cut_off is not None:
            chunk = min(
                step.budget - decoding.count, cut_off.target_tokens - cut_off.computed_tokens
            )
            end = cut_off.computed_tokens + chunk
            cut_off_wants = self._blocks.count_for(end) - cut_off.block_count
        if wanted + cut_off_wants > free:
            self._preempt_for(step, cut_off_wants)
        else:
            step.reserved_blocks = wanted
        step.budget -= decoding.count
        if cut_off is not None and cut_off.state is State.PREFILLING:
            self._plan_chunk(step, cut_off)

    def _preempt_for(self, step: Step, cut_off_wants: int) -> None:
        """Take the blocks of this step one after the other, and preempt while there are none."""
        pool = self._blocks.pool
        for sequence in list(self.running.values()):
            if sequence.state is State.DECODING:
                wanted = int(self.decoding.wants_block(sequence))
            elif sequence.state is State.PREFILLING:
                wanted = cut_off_wants
            else:
                continue  # preempted meanwhile
            while wanted > pool.free_count:
                if self._preempt_last(step) is sequence:
                    wanted = 0
            if wanted and sequence.state is State.DECODING:
                pool.take(wanted)
        step.is_counted = True
        self.decoding.pass_steps(1)

    def _preempt_last(self, step: Step) -> Sequence:
        _, sequence = self.running.popitem()
        if sequence.state is State.DECODING:
            self.decoding.leave(sequence)
        self._blocks.give_back(sequence)
        sequence.state = State.WAITING
        sequence.target_tokens = sequence.job.prompt_tokens + sequence.generated_count
        sequence.computed_tokens = sequence.named_blocks = 0
        sequence.is_recomputed = True
        self._waiting.appendleft(sequence)
        step.preempted.append(sequence)
        return sequence

    def _plan_waiting(self, step: Step, at: float) -> None:
        while step.budget > 0 and len(self.running) < self._max_sequences:
            if self._fetched:
                sequence = self._fetched[0]
                free = self._blocks.pool.free_count - step.reserved_blocks
                if self._blocks.missing(sequence) > free:
                    break
                self._fetched.popleft()
            elif self._waiting:
                sequence = self._waiting[0]
                if not self._find_room(step, sequence, at):
                    break
                self._waiting.popleft()
                if sequence.state is State.FETCHING:
                    continue
            else:
                break
            self._admissions += 1
            sequence.order = self._admissions
            sequence.state = State.PREFILLING
            self.running[sequence.job.job_id] = sequence
            self._plan_chunk(step, sequence)

    def _find_room(self, step: Step, sequence: Sequence, at: float) -> bool:
        """Lend *sequence* the blocks that are found, and begin to fetch; False if it must wait.

        It must until all that it has to compute fits beside what is lent (vLLM's
        ``scheduler_reserve_full_isl``); but only those found are lent now.
        """
        job, blocks = sequence.job, self._blocks
        found, found_tokens = blocks.find(sequence)
        fetched_tokens = 0
        reserved = step.reserved_blocks + blocks.pool.count_idle(found)
        if job.fetched_tokens and not sequence.is_recomputed:
            fetched_tokens = max(min(job.fetched_tokens, job.prompt_tokens) - found_tokens, 0)
        if fetched_tokens:
            # It is not to be preempted while it fetches, so it leaves what others in their prefill
            # rely on.
            cut_off = self._cut_off()
            reserved += self._reserved_by_fetches
            reserved += blocks.missing(cut_off) if cut_off is not None else 0
        wanted = blocks.count_for(sequence.target_tokens) - len(found)
        if wanted + reserved > blocks.pool.free_count:
            return False
        blocks.share(sequence, found)
        if not sequence.is_recomputed:
            sequence.cached_tokens = found_tokens
            self.prefix_queries += job.prompt_tokens
            self.prefix_hits += found_tokens
        if fetched_tokens:
            self._fetch(sequence, fetched_tokens, at)
        return True

    def _fetch(self, sequence: Sequence, tokens: int, at: float) -> None:
        sequence.fetched_tokens = tokens
        sequence.computed_tokens += tokens
        self._blocks.take(sequence)
        self._reserved_by_fetches += self._blocks.missing(sequence)
        seconds = self._transfer.latency_seconds + self._transfer.per_token * tokens
        self.fetching.add(sequence, at + seconds)

    def _take_in_fetched(self, sequence: Sequence) -> None:
        self._reserved_by_fetches -= self._blocks.missing(sequence)
        self._blocks.name(sequence)
        # The last token is computed even so.
        sequence.computed_tokens = min(sequence.computed_tokens, sequence.target_tokens - 1)
        sequence.state = State.FETCHED
        self._fetched.append(sequence)

    def _plan_chunk(self, step: Step, sequence: Sequence) -> None:
        before = sequence.computed_tokens
        chunk = min(step.budget, sequence.target_tokens - before)
        sequence.computed_tokens += chunk
        self._blocks.take(sequence)
        self._blocks.name(sequence)
        step.budget -= chunk
        step.prefill_tokens += chunk
        step.prefill_pairs += chunk * before + chunk * (chunk + 1) / 2
        if sequence.computed_tokens == sequence.target_tokens:
            step.ending_prefills.append(sequence)

    def _cut_off(self) -> Sequence | None:
        """Return the one that runs and has not computed all of its prompt."""
        last = next(reversed(self.running.values()), None)
        return last if last is not None and last.state is State.PREFILLING else None
