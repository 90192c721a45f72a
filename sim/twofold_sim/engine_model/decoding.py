"""The sequences that decode: one token each in every step, counted together."""

from heapq import heappop, heappush

from twofold_sim.engine_model.sequence import Sequence, State


class Decoding:
    """Counts steps, not tokens, so that a step of any number of sequences costs nothing.

    A sequence that joined with ``slots_at_join`` tokens in its blocks at step s has
    ``slots_at_join + (step - s)`` at *step*. It wants another block in the steps of one phase of
    ``step % block_tokens``, which never changes; ``_phases`` counts the sequences of each phase.
    """

    __slots__ = ("_block_tokens", "_ends", "_phases", "context_tokens", "count", "step")

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._phases = [0] * block_tokens
        self._ends: list[tuple[int, int, Sequence]] = []
        self.step = 0
        """Steps that are over, or begun and counted."""
        self.count = 0
        self.context_tokens = 0
        """In the blocks of all of them."""

    def join(self, sequence: Sequence, slots: int) -> None:
        """Let a sequence in that generated at least one token and has *slots* in its blocks."""
        sequence.state = State.DECODING
        sequence.joined_at_step = self.step
        sequence.slots_at_join = slots
        sequence.ends_at_step = self.step + sequence.job.output_tokens - sequence.generated_count
        heappush(self._ends, (sequence.ends_at_step, sequence.order, sequence))
        self._phases[(self.step - slots) % self._block_tokens] += 1
        self.count += 1
        self.context_tokens += slots

    def leave(self, sequence: Sequence) -> None:
        """Let a sequence out, with its counts of tokens and blocks brought up to date.

        Whatever state it is given then, its entry in ``_ends`` counts no more.
        """
        steps = self.step - sequence.joined_at_step
        slots = sequence.slots_at_join + steps
        sequence.generated_count += steps
        sequence.nameless_count = -(-slots // self._block_tokens) - len(sequence.shared_ids)
        sequence.state = State.GONE
        self._phases[(sequence.joined_at_step - sequence.slots_at_join) % self._block_tokens] -= 1
        self.count -= 1
        self.context_tokens -= slots

    def generated(self, sequence: Sequence) -> int:
        """Return how many tokens *sequence* has generated, which decodes."""
        return sequence.generated_count + self.step - sequence.joined_at_step

    def wants_block(self, sequence: Sequence) -> bool:
        """Tell whether *sequence* wants a block for the next step."""
        slots = sequence.slots_at_join + self.step - sequence.joined_at_step
        return slots % self._block_tokens == 0

    def blocks_for(self, step_count: int) -> int:
        """Return how many blocks the next steps want."""
        rounds, rest = divmod(step_count, self._block_tokens)
        first = self.step % self._block_tokens
        wanted = rounds * self.count + sum(self._phases[first : first + rest])
        over = first + rest - self._block_tokens
        return wanted + sum(self._phases[:over]) if over > 0 else wanted

    def steps_with(self, free_blocks: int, most: int) -> int:
        """Return how many steps, at most *most*, can be made with so many blocks."""
        if (most // self._block_tokens + 1) * self.count <= free_blocks:
            return most
        if self.blocks_for(most) <= free_blocks:
            return most
        fewest, too_many = 0, most
        while too_many - fewest > 1:
            middle = (fewest + too_many) // 2
            if self.blocks_for(middle) <= free_blocks:
                fewest = middle
            else:
                too_many = middle
        return fewest

    def pass_steps(self, step_count: int) -> None:
        """Count steps; the blocks for them are the caller's to take."""
        self.step += step_count
        self.context_tokens += self.count * step_count

    def steps_to_end(self) -> int:
        """Return how many steps it takes until the first of them has all its tokens."""
        self._drop_those_gone()
        return self._ends[0][0] - self.step

    def take_ended(self) -> list[Sequence]:
        """Let those out that have all their tokens, in the order of the batch."""
        ended: list[Sequence] = []
        self._drop_those_gone()
        while self._ends and self._ends[0][0] <= self.step:
            sequence = heappop(self._ends)[2]
            self.leave(sequence)
            ended.append(sequence)
            self._drop_those_gone()
        return ended

    def _drop_those_gone(self) -> None:
        ends = self._ends
        while ends and not _is_current(ends[0]):
            heappop(ends)


def _is_current(entry: tuple[int, int, Sequence]) -> bool:
    ends_at_step, order, sequence = entry
    return (
        sequence.state is State.DECODING
        and sequence.order == order
        and sequence.ends_at_step == ends_at_step
    )
