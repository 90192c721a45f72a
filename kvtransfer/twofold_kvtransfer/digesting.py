"""Digests of the blocks in this process's host memory, made in threads beside its loop.

Two processes that digest the same blocks in the same order get the same digests: one for each
``BLOCKS_PER_DIGEST`` blocks, of the bytes of the first region's blocks, then of the second's.
"""

import asyncio
import ctypes
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xxhash

from twofold_kvtransfer.blocks import BlockIds, BlockMap

BLOCKS_PER_DIGEST = 16
"""So many that a call takes them without Python's lock for long, and so few that threads can share
in a short prompt, and that their copy stays in the processor's cache."""

THREAD_COUNT = 2
"""Each digests some 8 GB/s: together what a link of 100 Gbit/s carries."""


Cells = npt.NDArray[np.uint8]
"""A block in a region each, shape ``(blocks, bytes)``."""


class Digester:
    """Owns the threads; what they read must stay allocated until :meth:`close`."""

    def __init__(self, blocks: BlockMap, *, thread_count: int = THREAD_COUNT) -> None:
        """*blocks* are in host memory."""
        assert blocks.memory == "dram", blocks
        self._blocks = blocks
        self._regions = [_cells(blocks, address) for address in blocks.addresses]
        self._pool = ThreadPoolExecutor(thread_count, thread_name_prefix="kv-digests")
        # One that is digested in each thread, and one that waits.
        self._unhurried = asyncio.Semaphore(2 * thread_count)

    async def digest(self, ids: BlockIds, part: tuple[int, int] = (0, 1)) -> list[int]:
        """Return the xxh3_64 of blocks *ids*, one for each ``BLOCKS_PER_DIGEST`` of them.

        *part* is index and count, as of :meth:`BlockMap.part`. What is asked for first is begun
        first. A cancelled call leaves at most what the threads are at.

        Raises:
            InvalidBlocksError: there are no such blocks, or no such part of them.
        """
        return await asyncio.gather(*map(self._in_a_thread, self._portions(ids, part)))

    async def digest_unhurried(self, ids: BlockIds, part: tuple[int, int] = (0, 1)) -> list[int]:
        """Return the same as :meth:`digest`, and give way to it: of all such calls together only
        as many portions are before it as keep the threads busy.

        Raises:
            InvalidBlocksError: there are no such blocks, or no such part of them.
        """

        async def one(portion: "_Portion") -> int:
            async with self._unhurried:
                return await self._in_a_thread(portion)

        return await asyncio.gather(*map(one, self._portions(ids, part)))

    def close(self) -> None:
        """Let go of the memory; returns when no thread reads it any more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _portions(self, ids: BlockIds, part: tuple[int, int]) -> "list[_Portion]":
        self._blocks.check(ids)
        index, count = part
        length = self._blocks.part(index, count).block_bytes
        return [_Portion(some, index * length, length) for some in portions(ids)]

    def _in_a_thread(self, portion: "_Portion") -> asyncio.Future[int]:
        return asyncio.get_running_loop().run_in_executor(self._pool, self._one, portion)

    def _one(self, portion: "_Portion") -> int:
        digest = xxhash.xxh3_64()
        rows = np.asarray(portion.ids)
        begin, end = portion.offset, portion.offset + portion.length
        for region in self._regions:
            # Copied together, though that is a copy: what is not longer than 64 KiB xxhash digests
            # without letting go of Python's lock, for which the engine's thread would wait.
            digest.update(region[rows, begin:end].data)
        return digest.intdigest()


class _Portion(NamedTuple):
    """What has one digest: of each block *ids* the bytes from *offset* on."""

    ids: BlockIds
    offset: int
    length: int


def portions(ids: BlockIds) -> Iterator[BlockIds]:
    """Cut *ids* into those that have a digest in common."""
    for start in range(0, len(ids), BLOCKS_PER_DIGEST):
        yield ids[start : start + BLOCKS_PER_DIGEST]


def _cells(blocks: BlockMap, address: int) -> Cells:
    memory = np.ctypeslib.as_array((ctypes.c_uint8 * blocks.region_bytes).from_address(address))
    shape = blocks.block_count, blocks.block_bytes
    return np.lib.stride_tricks.as_strided(memory, shape, (blocks.stride_bytes, 1), writeable=False)
