"""Buffers in host memory, for blocks there."""

import numpy as np
import xxhash

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.transports.sockets.cells import Regions
from twofold_kvtransfer.transports.two_sided import SLOT_COUNT, Cells


class HostBuffers:
    """numpy copies, which leave Python's lock to others meanwhile."""

    def __init__(self, blocks: BlockMap, size_bytes: int) -> None:
        self.slots = [np.empty(size_bytes, dtype=np.uint8) for _ in range(SLOT_COUNT)]
        self._regions = Regions(blocks)

    def load(self, slot: int, cells: Cells) -> None:
        buffer, at = self.slots[slot], 0
        for piece in self._pieces(cells):
            buffer[at : at + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
            at += len(piece)

    def unload(self, slot: int, cells: Cells) -> None:
        buffer, at = self.slots[slot], 0
        for piece in self._pieces(cells):
            np.frombuffer(piece, dtype=np.uint8)[:] = buffer[at : at + len(piece)]
            at += len(piece)

    def checksum(self, slot: int, size_bytes: int, seed: int) -> int:
        """Return the xxh3_64; the seed counts modulo 2**64, as xxhash takes it."""
        return xxhash.xxh3_64_intdigest(self.slots[slot].data[:size_bytes], seed)

    def _pieces(self, cells: Cells) -> list[memoryview]:
        (pieces,) = self._regions.runs(cells.ids, cells.part, cells.numbers, len(cells.numbers))
        return pieces
