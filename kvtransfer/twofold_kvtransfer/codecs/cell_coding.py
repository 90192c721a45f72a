"""The blocks of a map as payloads, piece by piece: what a transport sends in place of them.

A *cell* is one block in one region; those of *n* blocks are numbered region by region, as in
``transports.sockets.cells``. What is coded at once is either some cells of one region or whole
regions.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import replace

import torch

from twofold_kvtransfer.blocks import BlockIds, BlockMap
from twofold_kvtransfer.codecs.coding import decode_blocks, encode_blocks, payload_bytes
from twofold_kvtransfer.codecs.errors import CannotQuantiseError, ShapeError
from twofold_kvtransfer.codecs.names import CodecName
from twofold_kvtransfer.codecs.regions import DTYPES
from twofold_kvtransfer.codecs.shape import KvShape
from twofold_kvtransfer.codecs.threads import coding_threads

Part = tuple[int, int]
"""Offset and length of what is meant of a block, in bytes: whole heads."""


class CellCoder:
    """Encodes from the blocks of a map, and decodes into them, in the thread that calls.

    Owns ``threads``, in which it should be called; the blocks are their owner's.
    """

    def __init__(self, blocks: BlockMap, shape: KvShape, *, thread_count: int = 2) -> None:
        """Raises:
        ShapeError: *blocks* are not of *shape*, or not in this machine's memory.
        """
        _check(blocks, shape)
        self.shape = shape
        self._regions = [_tensor(address, blocks, shape) for address in blocks.addresses]
        self.threads = coding_threads(thread_count)

    def close(self) -> None:
        self.threads.shutdown()

    def bound(self, codec: CodecName, part: Part, cell_count: int) -> int:
        """Return the most bytes that a payload of *cell_count* cells has."""
        # One block of each of so many regions: no other split has more headers within.
        shape = replace(self.shape, regions=cell_count, heads=self._heads(part)[1])
        return max(payload_bytes(codec, shape, 1), payload_bytes("none", shape, 1))

    def encode(
        self, codec: CodecName, ids: BlockIds, part: Part, cells: range, into: memoryview
    ) -> int:
        """Write the payload of *cells* of the blocks *ids* to the start of *into*; return its size.

        What cannot be quantised becomes a payload of ``none``.
        """
        blocks = [self._blocks(region, some, part) for region, some in _pieces(ids, cells)]
        shape = self._shape_of(blocks)
        room = torch.frombuffer(into, dtype=torch.uint8)
        try:
            return len(encode_blocks(codec, blocks, shape, room))
        except CannotQuantiseError:
            return len(encode_blocks("none", blocks, shape, room))

    def decode(
        self, codec: CodecName, ids: BlockIds, part: Part, cells: range, payload: memoryview
    ) -> None:
        """Fill *cells* of the blocks *ids* from *payload*, which *codec* or ``none`` made.

        Raises:
            PayloadError: it is not of these cells, or damaged where that shows.
        """
        pieces = _pieces(ids, cells)
        blocks = [self._room(region, some, part) for region, some in pieces]
        shape = self._shape_of(blocks)
        data = torch.frombuffer(payload, dtype=torch.uint8)
        decode_blocks(data, shape, blocks, made_by=(codec, "none"))
        for (region, some), decoded in zip(pieces, blocks, strict=True):
            if not _is_row(some):  # else it was decoded in place
                self._part(region, part)[list(some)] = decoded

    def _shape_of(self, blocks: list[torch.Tensor]) -> KvShape:
        return replace(self.shape, regions=len(blocks), heads=blocks[0].shape[1])

    def _blocks(self, region: int, ids: BlockIds, part: Part) -> torch.Tensor:
        """Return the blocks *ids* of a region: a view if they lie in a row, else a copy."""
        whole = self._part(region, part)
        return whole[ids[0] : ids[-1] + 1] if _is_row(ids) else whole[list(ids)]

    def _room(self, region: int, ids: BlockIds, part: Part) -> torch.Tensor:
        """Return where to decode the blocks *ids*: in place if they lie in a row."""
        if _is_row(ids):
            return self._blocks(region, ids, part)
        whole = self._part(region, part)
        return torch.empty(len(ids), *whole.shape[1:], dtype=whole.dtype)

    def _part(self, region: int, part: Part) -> torch.Tensor:
        first, count = self._heads(part)
        return self._regions[region][:, first : first + count]

    def _heads(self, part: Part) -> tuple[int, int]:
        page_bytes = self.shape.page_numbers * self.shape.item_bytes
        (first, rest), (count, more) = divmod(part[0], page_bytes), divmod(part[1], page_bytes)
        assert rest + more == 0, (part, page_bytes)
        return first, count


def _check(blocks: BlockMap, shape: KvShape) -> None:
    cell_bytes = shape.block_numbers * shape.item_bytes
    if (blocks.region_count, blocks.block_bytes) != (shape.regions, cell_bytes):
        raise ShapeError(
            f"{blocks.region_count} regions with blocks of {blocks.block_bytes} bytes,"
            f" not {shape.regions} with {cell_bytes}"
        )
    places = (blocks.stride_bytes, *blocks.addresses)
    if blocks.memory != "dram" or any(place % shape.item_bytes for place in places):
        raise ShapeError(f"blocks in {blocks.memory}, not aligned numbers of {shape.dtype} in dram")


def _tensor(address: int, blocks: BlockMap, shape: KvShape) -> torch.Tensor:
    """Return a region's blocks, ``(blocks, heads, block_tokens, 2 * head_dim)``, as they lie."""
    memory = (ctypes.c_ubyte * blocks.region_bytes).from_address(address)
    width = 2 * shape.head_dim
    return torch.frombuffer(memory, dtype=DTYPES[shape.dtype]).as_strided(
        (blocks.block_count, shape.heads, shape.block_tokens, width),
        (blocks.stride_bytes // shape.item_bytes, shape.page_numbers, width, 1),
    )


def _pieces(ids: BlockIds, cells: range) -> list[tuple[int, Sequence[int]]]:
    """Return the regions of *cells* with the blocks that are meant of each."""
    count = len(ids)
    region, index = divmod(cells.start, count)
    if cells.stop <= (region + 1) * count:
        return [(region, ids[index : index + len(cells)])]
    assert (index, cells.stop % count) == (0, 0), cells
    return [(region, ids) for region in range(region, cells.stop // count)]


def _is_row(ids: BlockIds) -> bool:
    return list(ids) == list(range(ids[0], ids[0] + len(ids)))
