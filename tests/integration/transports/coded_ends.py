"""Two TCP transports that code, with blocks of numbers."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from tests.unit.kvtransfer.codecs.made_blocks import random_blocks

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.codecs import QUALITY, CodecName, KvShape, Packing
from twofold_kvtransfer.codecs.cell_coding import CellCoder
from twofold_kvtransfer.codecs.coding import decode_blocks, encode_blocks
from twofold_kvtransfer.transports.tcp import Compression, TcpSettings, TcpTransport
from twofold_kvtransfer.transports.tcp.pair import TcpPair

CODED: tuple[CodecName, ...] = ("lossless", "int8", "fp8", "int4")

SHAPE = KvShape(
    regions=3, heads=2, block_tokens=32, head_dim=16, dtype="bfloat16", packing=Packing.CPU
)
LARGE_SHAPE = KvShape(
    regions=4, heads=4, block_tokens=128, head_dim=64, dtype="bfloat16", packing=Packing.CPU
)
"""A block of a region has 128 KiB."""


@dataclass(frozen=True, slots=True)
class NumberBlocks:
    """Blocks of a cache, which live as long as this object."""

    tensor: torch.Tensor
    """``(regions, blocks, heads, block_tokens, 2 * head_dim)``; a view if there are gaps."""
    shape: KvShape

    @property
    def map(self) -> BlockMap:
        item = self.shape.item_bytes
        return BlockMap(
            addresses=tuple(region.data_ptr() for region in self.tensor),
            block_count=self.tensor.shape[1],
            block_bytes=self.shape.block_numbers * item,
            stride_bytes=self.tensor.stride(1) * item,
        )


def numbers(shape: KvShape, block_count: int, *, seed: int | None = None) -> NumberBlocks:
    """Make blocks of zeros, or of random numbers that *seed* determines, with gaps between."""
    gap = 8
    memory = torch.zeros(shape.regions, block_count, shape.block_numbers + gap).bfloat16()
    blocks = memory[:, :, : shape.block_numbers].unflatten(
        -1, (shape.heads, shape.block_tokens, 2 * shape.head_dim)
    )
    if seed is not None:
        blocks.copy_(random_blocks(shape, block_count, seed))
    return NumberBlocks(blocks, shape)


def coding(
    blocks: NumberBlocks,
    bound: CodecName,
    settings: TcpSettings | None = None,
    shape: KvShape | None = None,
    coder: Callable[[BlockMap, KvShape], CellCoder] = CellCoder,
) -> TcpTransport:
    """Make a transport whose first read is coded with *bound*: it takes links to be that slow."""
    compression = Compression(
        coder=coder(blocks.map, shape or blocks.shape),
        quality=QUALITY[bound],
        link_bytes_per_second=1e3,
        least_bytes=1,
    )
    serving = replace(settings or TcpSettings(), serves_writes=True)
    return TcpTransport(blocks.map, serving, compression=compression)


@dataclass(frozen=True, slots=True)
class CodedEnds:
    here: TcpTransport
    there: TcpTransport
    local: NumberBlocks
    remote: NumberBlocks
    pair: TcpPair


@contextlib.contextmanager
def coded_ends(
    bound: CodecName = "int8",
    shape: KvShape = SHAPE,
    block_count: int = 6,
    *,
    heads_there: int | None = None,
    part: tuple[int, int] = (0, 1),
    there: TcpSettings | None = None,
    there_coder: type[CellCoder] = CellCoder,
) -> Iterator[CodedEnds]:
    """Yield both; *part* is which of how many parts of the remote blocks' heads is taken."""
    remote_shape = _with_heads(shape, heads_there or shape.heads)
    local, remote = numbers(shape, block_count), numbers(remote_shape, block_count, seed=1)
    with (
        contextlib.closing(coding(local, bound)) as one,
        contextlib.closing(coding(remote, bound, there, coder=there_coder)) as other,
    ):
        pair = one.open(other.describe(), remote.map.part(*part))
        yield CodedEnds(one, other, local, remote, pair)


def through(codec: CodecName, blocks: torch.Tensor, shape: KvShape) -> torch.Tensor:
    """Return what *codec* makes of *blocks*."""
    out = torch.empty(blocks.shape, dtype=blocks.dtype)
    decode_blocks(encode_blocks(codec, blocks, shape), shape, out)
    return out


def bits(blocks: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    return np.asarray(blocks.contiguous().view(torch.int16).numpy())


def _with_heads(shape: KvShape, heads: int) -> KvShape:
    return KvShape(
        regions=shape.regions,
        heads=heads,
        block_tokens=shape.block_tokens,
        head_dim=shape.head_dim,
        dtype=shape.dtype,
        packing=shape.packing,
    )
