"""The blocks to be coded, and the pieces that they are coded in."""

from collections.abc import Sequence
from typing import TypeAlias

import torch

from twofold_kvtransfer.codecs.errors import ShapeError
from twofold_kvtransfer.codecs.shape import Dtype, KvShape

Regions: TypeAlias = Sequence[torch.Tensor] | torch.Tensor
"""Of each region ``(blocks, heads, block_tokens, 2 * head_dim)``; or one tensor of them all."""

DTYPES: dict[Dtype, torch.dtype] = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}

CHUNK_NUMBERS = 1 << 18
"""A chunk's float32 working copies, 0.5 MB for each of K and V, fit into a core's own cache."""


def check(regions: Regions, shape: KvShape) -> int:
    """Return how many blocks there are in each of *regions*.

    Raises:
        ShapeError: they are not of *shape*.
    """
    if len(regions) != shape.regions:
        raise ShapeError(f"{len(regions)} regions, not {shape.regions}")
    block_count = int(regions[0].shape[0])
    wanted = (block_count, shape.heads, shape.block_tokens, 2 * shape.head_dim)
    for region in regions:
        if tuple(region.shape) != wanted or region.dtype != DTYPES[shape.dtype]:
            raise ShapeError(f"{region.dtype} {tuple(region.shape)}, not {shape.dtype} {wanted}")
    return block_count


def chunks(shape: KvShape, block_count: int) -> list[slice]:
    """Cut the blocks of a region into chunks of about CHUNK_NUMBERS, at least one block each."""
    step = max(1, CHUNK_NUMBERS // shape.block_numbers)
    return [slice(at, min(at + step, block_count)) for at in range(0, block_count, step)]
