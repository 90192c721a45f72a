"""The bodies of lossy payloads: sections of known size, region by region, and who fills them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from twofold_kvtransfer.codecs import float8, quantising
from twofold_kvtransfer.codecs.regions import Regions, chunks
from twofold_kvtransfer.codecs.shape import KvShape
from twofold_kvtransfer.codecs.sides import Side, split

LossyName = Literal["int8", "fp8", "int4"]
BITS: dict[LossyName, int] = {"int8": 8, "fp8": 8, "int4": 4}
BITS_PER_BYTE = 8


@dataclass(frozen=True, slots=True)
class Section:
    """An array ``(blocks, heads, per_head)`` of items of *item_bytes*."""

    per_head: int
    item_bytes: int


@dataclass(frozen=True, slots=True)
class SideArrays:
    """Where K or V of some blocks goes in a payload; each is ``(blocks, heads, …)``."""

    codes: torch.Tensor
    scales: tuple[torch.Tensor, ...]
    """``fp8``: a scale per head. Else a scale and an offset per group."""


def sections(codec: LossyName, shape: KvShape) -> tuple[Section, ...]:
    """Return a region's sections in their order: what scales K, what scales V, the codes of K,
    those of V.

    The scales, float32 for ``fp8`` and else of the cache's type, come first because each section
    then is aligned for its type.
    """
    codes = Section(shape.side_numbers * BITS[codec] // BITS_PER_BYTE, 1)
    if codec == "fp8":
        one = Section(1, 4)
        return one, one, codes, codes
    channel = Section(shape.head_dim, shape.item_bytes)
    token = Section(shape.block_tokens, shape.item_bytes)
    return channel, channel, token, token, codes, codes


def region_bytes(codec: LossyName, shape: KvShape, block_count: int) -> int:
    """Of all sections of one region."""
    per_head = sum(part.per_head * part.item_bytes for part in sections(codec, shape))
    return block_count * shape.heads * per_head


def side_arrays(
    codec: LossyName, shape: KvShape, dtype: torch.dtype, region_body: torch.Tensor
) -> tuple[SideArrays, SideArrays]:
    """Return views of a region's body as the arrays of K and of V."""
    parts = sections(codec, shape)
    rows = len(region_body) // region_bytes(codec, shape, 1)
    scale_dtype = torch.float32 if codec == "fp8" else dtype
    arrays, at = [], 0
    for part in parts:
        end = at + rows * shape.heads * part.per_head * part.item_bytes
        item = torch.int8 if part.item_bytes == 1 else scale_dtype
        arrays.append(region_body[at:end].view(item).view(rows, shape.heads, part.per_head))
        at = end
    middle = len(parts) // 2 - 1
    *scales, key_codes, value_codes = arrays
    return (
        SideArrays(key_codes, tuple(scales[:middle])),
        SideArrays(value_codes, tuple(scales[middle:])),
    )


def encoding(
    codec: LossyName, blocks: Regions, shape: KvShape, body: torch.Tensor
) -> Iterator[Callable[[], None]]:
    for side, arrays in _sides(codec, blocks, shape, body):
        yield partial(_quantise, codec, side, arrays)


def decoding(
    codec: LossyName, out: Regions, shape: KvShape, body: torch.Tensor
) -> Iterator[Callable[[], None]]:
    for side, arrays in _sides(codec, out, shape, body):
        yield partial(_restore, codec, side, arrays)


def _sides(
    codec: LossyName, regions: Regions, shape: KvShape, body: torch.Tensor
) -> Iterator[tuple[Side, SideArrays]]:
    """Yield K and V of each chunk with its part of the body."""
    at = 0
    for region in regions:
        end = at + region_bytes(codec, shape, len(region))
        both = side_arrays(codec, shape, region.dtype, body[at:end])
        for chunk in chunks(shape, len(region)):
            for side, arrays in zip(split(region[chunk], shape), both, strict=True):
                scales = tuple(scale[chunk] for scale in arrays.scales)
                yield side, SideArrays(arrays.codes[chunk], scales)
        at = end


def _quantise(codec: LossyName, side: Side, arrays: SideArrays) -> None:
    if codec == "fp8":
        float8.quantise(side, arrays.codes, arrays.scales[0].squeeze(-1))
    else:
        quantising.quantise(side, BITS[codec], arrays.codes, *arrays.scales)


def _restore(codec: LossyName, side: Side, arrays: SideArrays) -> None:
    if codec == "fp8":
        float8.restore(side, arrays.codes, arrays.scales[0].squeeze(-1))
    else:
        quantising.restore(side, BITS[codec], arrays.codes, *arrays.scales)
