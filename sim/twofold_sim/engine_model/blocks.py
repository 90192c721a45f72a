"""The blocks of an engine's KV cache: blank, lent, or idle with a part that may be found again."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence

from twofold_sim.engine_model.interface import BlocksEvent, BlocksRemoved, BlocksStored


class BlockPool:
    """Lends blocks, and finds those again that hold a known part of a prompt.

    A block is *blank*, *lent without a name* to one, or *named*: then it holds the part of a prompt
    that its id stands for, and is lent to as many as share it, or *idle*. Idle blocks are blanked
    when blocks are wanted and none is blank, the one first that was given back first.

    Invariant: blank + idle + lent == ``block_count``, where those that share a block lend it once.

    As in vLLM a name has one block: who computes again what is named already has a block without a
    name for it. (vLLM keeps the second one under the name too, in case the first is evicted.)
    """

    __slots__ = ("_blank_count", "_idle", "_on_blocks", "_sharers", "block_count", "free_count")

    def __init__(
        self, block_count: int, on_blocks: Callable[[BlocksEvent], None] | None = None
    ) -> None:
        self.block_count = block_count
        self.free_count = block_count
        """Blank or idle: what can be lent."""
        self._blank_count = block_count
        self._sharers: dict[Hashable, int] = {}
        """How many each named block is lent to."""
        self._idle: OrderedDict[Hashable, None] = OrderedDict()
        self._on_blocks = on_blocks

    def __contains__(self, block_id: Hashable) -> bool:
        """Tell whether the prefix cache has this block."""
        return block_id in self._sharers

    @property
    def lent_count(self) -> int:
        return self.block_count - self.free_count

    def count_hits(self, block_ids: Sequence[Hashable], most: int) -> int:
        """Return how many of the first *most* blocks are here, without a gap from the first on."""
        sharers = self._sharers
        count = 0
        for block_id in block_ids:
            if count == most or block_id not in sharers:
                break
            count += 1
        return count

    def count_idle(self, block_ids: Sequence[Hashable]) -> int:
        """Return how many of these would no longer be free if they were shared."""
        idle = self._idle
        return sum(block_id in idle for block_id in block_ids) if idle else 0

    def share(self, block_ids: Sequence[Hashable]) -> None:
        """Lend blocks that are here by their names."""
        sharers, idle = self._sharers, self._idle
        for block_id in block_ids:
            count = sharers[block_id]
            if not count:
                del idle[block_id]
                self.free_count -= 1
            sharers[block_id] = count + 1

    def take(self, count: int) -> None:
        """Lend *count* blocks without a name; as many must be free."""
        assert 0 <= count <= self.free_count, (count, self.free_count)
        self.free_count -= count
        missing = count - self._blank_count
        if missing <= 0:
            self._blank_count -= count
            return
        self._blank_count = 0
        evicted = [self._idle.popitem(last=False)[0] for _ in range(missing)]
        for block_id in evicted:
            del self._sharers[block_id]
        if self._on_blocks is not None:
            self._on_blocks(BlocksRemoved(tuple(evicted)))

    def name(
        self, block_ids: Sequence[Hashable], parent_id: Hashable | None = None
    ) -> list[Hashable]:
        """Name as many blocks that were lent without; *parent_id* is the block before the first.

        Return the names that were new. The blocks of the others stay without a name.
        """
        sharers = self._sharers
        named = [block_id for block_id in block_ids if block_id not in sharers]
        for block_id in named:
            sharers[block_id] = 1
        if named and self._on_blocks is not None:
            for event in _stored(block_ids, set(named), parent_id):
                self._on_blocks(event)
        return named

    def give_back(self, block_ids: Sequence[Hashable], nameless_count: int) -> None:
        """Take back blocks by their names, in the order of the prompt, and some without a name.

        Of those that nobody else shares, the last of the prompt is the first to be blanked.
        """
        sharers, idle = self._sharers, self._idle
        freed = nameless_count
        for block_id in reversed(block_ids):
            count = sharers[block_id] - 1
            sharers[block_id] = count
            if not count:
                idle[block_id] = None
                freed += 1
        self._blank_count += nameless_count
        self.free_count += freed
        assert self.free_count <= self.block_count, "given back what was not lent"


def _stored(
    block_ids: Sequence[Hashable], named: set[Hashable], parent_id: Hashable | None
) -> list[BlocksStored]:
    """Return one event for each unbroken run of *named* blocks."""
    events: list[BlocksStored] = []
    run: list[Hashable] = []
    for block_id in block_ids:
        if block_id in named:
            run.append(block_id)
            continue
        if run:
            events.append(BlocksStored(tuple(run), parent_id))
            run = []
        parent_id = block_id
    if run:
        events.append(BlocksStored(tuple(run), parent_id))
    return events
