"""Buffers in GPU memory, for blocks there."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.transports.two_sided import SLOT_COUNT, Cells

WORD_BYTES = 8
"""What the copies count in where all is aligned to it; else single bytes."""

RowsAt = Callable[[int, tuple[int, int], int, int], torch.Tensor]
"""Given an address, the shape in words, the bytes from row to row and those of a word, return the
memory there as a tensor of ``int64`` or ``uint8``, without a copy."""


class DeviceBuffers:
    """PyTorch's ``index_select`` and ``index_copy_``."""

    def __init__(
        self,
        blocks: BlockMap,
        size_bytes: int,
        device: torch.device,
        copying: Callable[[], AbstractContextManager[None]],
        rows_at: RowsAt,
    ) -> None:
        """What is called within *copying* has ended when it is left."""
        whole_words = -(-size_bytes // WORD_BYTES) * WORD_BYTES
        self.slots = [
            torch.empty(whole_words, dtype=torch.uint8, device=device) for _ in range(SLOT_COUNT)
        ]
        self._blocks = blocks
        self._device = device
        self._copying = copying
        self._rows_at = rows_at
        self._part: tuple[int, int] | None = None
        self._rows: list[torch.Tensor] = []

    def load(self, slot: int, cells: Cells) -> None:
        with self._copying():
            for rows, ids, at in self._pieces(slot, cells):
                torch.index_select(rows, 0, ids, out=at)

    def unload(self, slot: int, cells: Cells) -> None:
        with self._copying():
            for rows, ids, at in self._pieces(slot, cells):
                rows.index_copy_(0, ids, at)

    def _pieces(
        self, slot: int, cells: Cells
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield, region by region, its rows, which of them, and their place in the buffer."""
        rows = self._rows_of(cells.part)
        buffer = self.slots[slot].view(rows[0].dtype)
        width = rows[0].shape[1]
        at = 0
        first, stop, per_region = cells.numbers.start, cells.numbers.stop, len(cells.ids)
        while first < stop:
            region, index = divmod(first, per_region)
            count = min(stop - first, per_region - index)
            ids = torch.tensor(cells.ids[index : index + count], device=self._device)
            yield rows[region], ids, buffer[at : at + count * width].view(count, width)
            at += count * width
            first += count

    def _rows_of(self, part: tuple[int, int]) -> list[torch.Tensor]:
        """Return *part* of all blocks, region by region; the last answer is kept."""
        if part != self._part:
            blocks, (offset, length) = self._blocks, part
            addresses = [address + offset for address in blocks.addresses]
            aligned = all(n % WORD_BYTES == 0 for n in (*addresses, length, blocks.stride_bytes))
            word = WORD_BYTES if aligned else 1
            shape = (blocks.block_count, length // word)
            self._rows = [self._rows_at(at, shape, blocks.stride_bytes, word) for at in addresses]
            self._part = part
        return self._rows


class _Memory:
    """What PyTorch takes for a tensor that another owns."""

    def __init__(self, address: int, shape: tuple[int, int], stride: int, word: int) -> None:
        self.__cuda_array_interface__ = {
            "version": 3,
            "data": (address, False),
            "shape": shape,
            "strides": (stride, word),
            "typestr": "<i8" if word == WORD_BYTES else "|u1",
        }


def cuda_rows_at(address: int, shape: tuple[int, int], stride: int, word: int) -> torch.Tensor:
    rows = torch.as_tensor(_Memory(address, shape, stride, word), device="cuda")
    assert rows.data_ptr() == address, "a copy was made"
    return rows
