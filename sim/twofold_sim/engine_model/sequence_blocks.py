"""The blocks of each sequence, out of the pool."""

from collections.abc import Hashable
from collections.abc import Sequence as Many

from twofold_sim.engine_model.blocks import BlockPool
from twofold_sim.engine_model.sequence import Sequence


class SequenceBlocks:
    """Finds, takes, names and gives back the blocks of sequences that do not decode."""

    __slots__ = ("_block_tokens", "pool")

    def __init__(self, pool: BlockPool, block_tokens: int) -> None:
        self.pool = pool
        self._block_tokens = block_tokens

    def count_for(self, tokens: int) -> int:
        return -(-tokens // self._block_tokens)

    def missing(self, sequence: Sequence) -> int:
        """Return how many blocks it takes beside those that it has, to end its prefill."""
        return self.count_for(sequence.target_tokens) - sequence.block_count

    def find(self, sequence: Sequence) -> tuple[Many[Hashable], int]:
        """Return the ids of the blocks that can be found, and how many tokens those are.

        The last token is always computed: there would be nothing to sample from.
        """
        most = min(sequence.full_blocks, (sequence.target_tokens - 1) // self._block_tokens)
        hits = self.pool.count_hits(sequence.job.block_ids, most)
        return sequence.job.block_ids[:hits], hits * self._block_tokens

    def share(self, sequence: Sequence, found: Many[Hashable]) -> None:
        """Lend *sequence*, which has none, the blocks that were found."""
        self.pool.share(found)
        sequence.shared_ids = list(found)
        sequence.named_blocks = len(found)
        sequence.computed_tokens = len(found) * self._block_tokens

    def take(self, sequence: Sequence) -> None:
        """Lend *sequence* the blocks for what it has computed."""
        wanted = self.count_for(sequence.computed_tokens) - sequence.block_count
        if wanted > 0:
            self.pool.take(wanted)
            sequence.nameless_count += wanted

    def name(self, sequence: Sequence) -> None:
        """Let the full blocks of what *sequence* has computed be found by others."""
        first = sequence.named_blocks
        end = min(sequence.full_blocks, sequence.computed_tokens // self._block_tokens)
        if end <= first:
            return
        ids = sequence.job.block_ids
        named = self.pool.name(ids[first:end], ids[first - 1] if first else None)
        sequence.shared_ids += named
        sequence.nameless_count -= len(named)
        sequence.named_blocks = end

    def give_back(self, sequence: Sequence) -> None:
        self.pool.give_back(sequence.shared_ids, sequence.nameless_count)
        sequence.shared_ids = []
        sequence.nameless_count = 0
