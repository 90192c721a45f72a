"""What the prefix cache of an engine holds, for peers that read from it while it goes on changing.

Nothing is kept for those who look, so nobody can keep a block by looking. Instead they read, and
ask afterwards whether the blocks were the same all the time: a block that was given to another
content in between has another *version*.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twofold_kvtransfer.steps import Steps


class Block(Protocol):
    """What is read of vLLM's block."""

    block_id: int


class Pool(Protocol):
    """What is used of vLLM's pool of blocks, the engine thread's own."""

    num_gpu_blocks: int
    get_new_blocks: Callable[[int], list[Block]]
    cache_full_blocks: Callable[..., None]

    def get_cached_block(
        self, block_hash: bytes, kv_cache_group_ids: list[int]
    ) -> Sequence[Block] | None: ...


@dataclass(frozen=True, slots=True)
class Sight:
    """Blocks as they were when somebody looked."""

    blocks: tuple[int, ...]
    versions: tuple[int, ...]
    step: int
    """Once the engine has done it, they are computed."""


class Shelf:
    """Shows the only cache group of an engine to another thread.

    vLLM names a block while it schedules the step that computes it, so what is seen is there when
    that step has been done. The engine's thread changes the pool meanwhile: what is seen of it is
    taken one word at a time, and what may have changed in between is seen as not there.
    """

    def __init__(self, pool: Pool) -> None:
        """Count from now on how often *pool* gives each block to a new content, and in which step
        each is named."""
        self._pool = pool
        self._versions = [0] * pool.num_gpu_blocks
        self._steps = [0] * pool.num_gpu_blocks
        self.steps = Steps()
        take, name = pool.get_new_blocks, pool.cache_full_blocks

        def take_and_count(count: int) -> list[Block]:
            blocks = take(count)
            for block in blocks:
                self._versions[block.block_id] += 1
            return blocks

        def note_and_name(
            request: object,
            blocks: list[Block],
            num_cached_blocks: int,
            num_full_blocks: int,
            *more: Any,
            **named: Any,
        ) -> None:
            for block in blocks[num_cached_blocks:num_full_blocks]:
                self._steps[block.block_id] = self.steps.next_number
            name(request, blocks, num_cached_blocks, num_full_blocks, *more, **named)

        # Blocks change hands and are named nowhere else, and vLLM tells nobody of it in time.
        pool.get_new_blocks = take_and_count
        pool.cache_full_blocks = note_and_name

    def look(self, names: Sequence[bytes]) -> Sight:
        """Return the blocks that have the first of *names*, up to the first that no block has."""
        blocks, versions, step = [], [], 0
        for name in names:
            block = self._find(name)
            if block is None:
                break
            version = self._versions[block]
            if self._find(name) != block:  # or the version may be an earlier content's
                break
            blocks.append(block)
            versions.append(version)
            step = max(step, self._steps[block])  # set before the name, so it is no earlier one
        return Sight(tuple(blocks), tuple(versions), step)

    def unchanged(
        self, names: Sequence[bytes], blocks: Sequence[int], versions: Sequence[int]
    ) -> bool:
        """Say whether *blocks* have *names* as they had when they were seen, and had all along."""
        return all(
            self._find(name) == block and self._versions[block] == version
            for name, block, version in zip(names, blocks, versions, strict=True)
        )

    def _find(self, name: bytes) -> int | None:
        try:
            found = self._pool.get_cached_block(name, [0])
        except (RuntimeError, StopIteration):  # blocks of this name come or go just now
            return None
        return found[0].block_id if found else None
