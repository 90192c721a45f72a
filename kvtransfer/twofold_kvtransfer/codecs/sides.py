"""K and V of blocks as tensors whose quantisation groups are whole axes.

K is grouped by channel over the tokens of a block and V by token over the channels: K has
channels that are large in all tokens, V has not (KIVI, arXiv 2402.02750, section 3).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from twofold_kvtransfer.codecs.errors import ShapeError
from twofold_kvtransfer.codecs.shape import TILE, KvShape, Packing

Reduce = Callable[..., torch.Tensor]

PAIR = 2


@dataclass(frozen=True, slots=True)
class Side:
    """K or V of some blocks, as a view: ``(blocks, heads, *axes)`` in the order of memory."""

    numbers: torch.Tensor
    groups: Literal["rows", "columns", "tiles"]
    """``rows``: the last axis is one group; ``columns``: the last but one; ``tiles``: axes
    ``(-4, -2)`` of ``(…, n, m, 16, 2)`` are, so that groups are ``(m, 2)``."""

    def float32(self) -> torch.Tensor:
        """Return a copy of the numbers in one piece."""
        return self.numbers.to(torch.float32, copy=True, memory_format=torch.contiguous_format)

    def fold(self, numbers: torch.Tensor, reduce: Reduce) -> torch.Tensor:
        """Reduce *numbers*, of this side's shape, to ``(blocks, heads, groups)``."""
        if self.groups == "rows":
            return reduce(numbers, -1)
        if self.groups == "columns":
            return reduce(numbers, -2)
        # The outer axis first: that is quick, and leaves little for the inner one.
        return reduce(reduce(numbers, -4), -2).flatten(-2)

    def spread(self, values: torch.Tensor) -> torch.Tensor:
        """Make *values*, ``(blocks, heads, groups)``, broadcast against this side."""
        if self.groups == "rows":
            return values.unsqueeze(-1)
        if self.groups == "columns":
            return values.unsqueeze(-2)
        # Copied along the axis of 16: to broadcast over an axis of 2 is 20 times slower.
        *ahead, group_count = values.shape
        tiled = values.view(*ahead, 1, group_count // PAIR, 1, PAIR)
        return tiled.expand(*ahead, 1, group_count // PAIR, TILE, PAIR).contiguous()


def split(blocks: torch.Tensor, shape: KvShape) -> tuple[Side, Side]:
    """Return K and V of *blocks*, ``(blocks, heads, block_tokens, 2 * head_dim)``.

    Raises:
        ShapeError: a head's part of a block is not in one piece, as its packing needs.
    """
    tokens, channels = shape.block_tokens, shape.head_dim
    if shape.packing is Packing.TOKENS:
        key, value = blocks.split(channels, dim=-1)
        return Side(key, "columns"), Side(value, "rows")
    if blocks.stride(-1) != 1 or blocks.stride(-2) != 2 * channels:
        raise ShapeError(f"heads are not in one piece: strides {blocks.stride()}")
    pages = blocks.view(*blocks.shape[:2], 2, shape.side_numbers)
    key, value = pages[:, :, 0], pages[:, :, 1]
    if shape.packing is Packing.CPU:
        return (
            Side(key.unflatten(-1, (channels, tokens)), "rows"),
            Side(value.unflatten(-1, (tokens, channels)), "rows"),
        )
    return (
        Side(key.unflatten(-1, (tokens // TILE, channels // PAIR, TILE, PAIR)), "tiles"),
        Side(value.unflatten(-1, (channels // TILE, tokens // PAIR, TILE, PAIR)), "tiles"),
    )
