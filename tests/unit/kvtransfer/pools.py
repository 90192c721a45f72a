"""A double of vLLM's pool of blocks, for what stands on it."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

BLOCK_TOKENS = 4


@dataclass(eq=False)
class FakeBlock:
    block_id: int
    users: int = 0
    name: bytes | None = None


class FakePool:
    """Gives out first what holds nothing, then what nobody has used for longest.

    A block has users or is in ``free``, never both; ``_named`` has all blocks that have a name.
    """

    def __init__(self, count: int) -> None:
        """Have *count* blocks, of which the first is the null block, which nobody gets."""
        self.num_gpu_blocks = count
        self.hash_block_size = BLOCK_TOKENS
        self.blocks = [FakeBlock(number) for number in range(count)]
        self.null_block: Any = self.blocks[0]
        self.get_new_blocks: Callable[[int], list[Any]] = self._take
        self.cache_full_blocks: Callable[..., None] = self._name
        self.free = deque(self.blocks[1:])
        self._named: dict[bytes, dict[int, FakeBlock]] = {}

    def get_num_free_blocks(self) -> int:
        return len(self.free)

    def get_cached_block(
        self, block_hash: bytes, kv_cache_group_ids: list[int]
    ) -> Sequence[FakeBlock] | None:
        assert kv_cache_group_ids == [0]
        blocks = self._named.get(block_hash)
        return [next(iter(blocks.values()))] if blocks else None

    def _name(
        self,
        request: Any,
        blocks: list[Any],
        num_cached_blocks: int,
        num_full_blocks: int,
        block_size: int,
        kv_cache_group_id: int,
    ) -> None:
        assert (block_size, kv_cache_group_id) == (self.hash_block_size, 0)
        for number in range(num_cached_blocks, num_full_blocks):
            self.give_name(blocks[number], request.block_hashes[number])

    def free_blocks(self, ordered_blocks: Iterable[Any]) -> None:
        unused = []
        for block in ordered_blocks:
            assert block.users > 0, f"block {block.block_id} was free"
            block.users -= 1
            if not block.users:
                unused.append(block)
        self.free.extendleft(reversed([block for block in unused if block.name is None]))
        self.free.extend(block for block in unused if block.name is not None)

    def touch(self, blocks: Sequence[Any]) -> None:
        """Have somebody use *blocks*, whose content was found here."""
        for block in blocks:
            if not block.users:
                self.free.remove(block)
            block.users += 1

    def give_name(self, block: FakeBlock, name: bytes) -> None:
        assert block is not self.null_block
        assert block.name is None, f"block {block.block_id} has a name"
        block.name = name
        self._named.setdefault(name, {})[block.block_id] = block

    def take_name(self, block: FakeBlock) -> None:
        if block.name is None:
            return
        same = self._named[block.name]
        del same[block.block_id]
        if not same:
            del self._named[block.name]
        block.name = None

    def hold(self, names: Sequence[bytes]) -> list[FakeBlock]:
        """Have new blocks of these *names*, computed long ago, which nobody uses any more."""
        blocks = self.get_new_blocks(len(names))
        for block, name in zip(blocks, names, strict=True):
            self.give_name(block, name)
        self.free_blocks(reversed(blocks))
        return blocks

    def schedule(self, names: Sequence[bytes]) -> list[FakeBlock]:
        """Name new blocks as vLLM does while it schedules the step that computes them."""
        blocks = self.get_new_blocks(len(names))
        prompt = SimpleNamespace(block_hashes=names)
        self.cache_full_blocks(prompt, blocks, 0, len(names), self.hash_block_size, 0)
        self.free_blocks(reversed(blocks))
        return blocks

    def give_away(self, block: FakeBlock, name: bytes | None = None) -> None:
        """Give *block*, which nobody uses, to a content of another *name*, or of none."""
        self.free.remove(block)
        self.free.appendleft(block)
        assert self.get_new_blocks(1) == [block]
        if name is not None:
            self.give_name(block, name)
        self.free_blocks([block])

    def _take(self, count: int) -> list[FakeBlock]:
        if count > len(self.free):
            raise ValueError(f"Cannot get {count} free blocks from the pool")
        taken = [self.free.popleft() for _ in range(count)]
        for block in taken:
            self.take_name(block)
            block.users = 1
        return taken
