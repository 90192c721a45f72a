"""Descriptors of blocks, as NIXL takes them."""

import numpy as np
import numpy.typing as npt

from twofold_kvtransfer.blocks import BlockIds, BlockMap

Indices = npt.NDArray[np.int32]


def regions_to_register(blocks: BlockMap) -> list[tuple[int, int, int, str]]:
    """Return address, length, device and no metadata of the memory that the blocks lie in.

    Regions that overlap, because blocks of several lie between each other, are registered as one.
    """
    length = blocks.region_bytes
    merged: list[tuple[int, int]] = []
    for start in sorted(blocks.addresses):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], start + length)
        else:
            merged.append((start, start + length))
    return [(start, end - start, _device(blocks), "") for start, end in merged]


def strided_list(blocks: BlockMap) -> npt.NDArray[np.uint64]:
    """Return a row per region: address, bytes, device, stride, count.

    A row stands for all its blocks, and NIXL can make one piece of consecutive ones.
    """
    rows = [
        (address, blocks.block_bytes, _device(blocks), blocks.stride_bytes, blocks.block_count)
        for address in blocks.addresses
    ]
    return np.array(rows, dtype=np.uint64)


def first_indices(blocks: BlockMap) -> Indices:
    """Return the number of each region's first block in its ``strided_list``, shape
    ``(regions, 1)``."""
    return (np.arange(blocks.region_count, dtype=np.int32) * blocks.block_count)[:, None]


def indices_of(firsts: Indices, ids: BlockIds) -> Indices:
    """Return the numbers of blocks *ids* in each region, region after region."""
    return (firsts + np.asarray(ids, dtype=np.int32)).ravel()


def _device(blocks: BlockMap) -> int:
    return blocks.device if blocks.memory == "vram" else 0
