"""The bytes of some blocks in an order that both sides know.

A *cell* is one block in one region. The cells of *n* blocks are numbered region by region, so cell
*c* is the ``c % n``-th of the blocks in region ``c // n``: neighbours in memory are neighbours in
this order. A *run* is some consecutive cells that are sent at once under one checksum.
"""

import ctypes
from collections.abc import Iterator

from twofold_kvtransfer.blocks import BlockIds, BlockMap
from twofold_kvtransfer.transports.sockets.wire import MAX_RUN_CELLS

RUN_BYTES = 1 << 19
"""Of a run, about: so long that the calls cost little, so short that its bytes are still in the
processor's cache when they are sent after the checksum was made. Of 256 KiB to 4 MiB, between two
processes of one machine, the half to one MiB was quickest."""


def run_cells_for(cell_bytes: int) -> int:
    """Return how many cells of *cell_bytes* make a run."""
    return max(1, min(MAX_RUN_CELLS, RUN_BYTES // cell_bytes))


class Regions:
    """The memory of a map, region by region, as long as its owner keeps it."""

    def __init__(self, blocks: BlockMap) -> None:
        self.map = blocks
        self._views = [
            memoryview((ctypes.c_ubyte * blocks.region_bytes).from_address(address)).cast("B")
            for address in blocks.addresses
        ]

    def runs(
        self, ids: BlockIds, part: tuple[int, int], cells: range, run_cells: int
    ) -> Iterator[list[memoryview]]:
        """Yield the memory of *cells* of the blocks *ids*, in runs; neighbours are joined.

        *part* is the offset and length of what is meant of a block, in bytes. All must have been
        checked: what is outside of the map is a bug of the caller.
        """
        offset, length = part
        starts = [number * self.map.stride_bytes + offset for number in ids]
        for first in range(cells.start, cells.stop, run_cells):
            stop = min(first + run_cells, cells.stop)
            yield self._pieces(starts, length, range(first, stop))

    def _pieces(self, starts: list[int], length: int, cells: range) -> list[memoryview]:
        pieces: list[memoryview] = []
        first = cells.start
        while first < cells.stop:
            region, index = divmod(first, len(starts))
            stop = min(cells.stop, (region + 1) * len(starts))
            wanted = starts[index : index + stop - first]
            view = self._views[region]
            if length == self.map.stride_bytes:
                pieces += _joined(view, wanted, length)
            else:
                pieces += [view[start : start + length] for start in wanted]
            first = stop
        return pieces


def _joined(view: memoryview, starts: list[int], length: int) -> list[memoryview]:
    pieces = []
    begin = end = starts[0]
    for start in starts:
        if start != end:
            pieces.append(view[begin:end])
            begin = start
        end = start + length
    pieces.append(view[begin:end])
    return pieces
