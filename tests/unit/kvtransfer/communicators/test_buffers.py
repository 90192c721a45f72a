"""Buffers in host and in device memory: the same cells, in the same order.

The device is the CPU here: PyTorch's calls are the same, the memory is numpy's.
"""

import contextlib

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import given
from hypothesis import strategies as st

from twofold_kvtransfer.communicators.device_buffers import DeviceBuffers
from twofold_kvtransfer.communicators.host_buffers import HostBuffers
from twofold_kvtransfer.transports.testing import HostBlocks, host_blocks
from twofold_kvtransfer.transports.two_sided import Cells

CPU = torch.device("cpu")


def device_buffers(blocks: HostBlocks, size_bytes: int) -> DeviceBuffers:
    whole = blocks.memory.reshape(-1)

    def rows_at(address: int, shape: tuple[int, int], stride: int, word: int) -> torch.Tensor:
        rows = np.lib.stride_tricks.as_strided(
            whole[address - whole.ctypes.data :][:word].view(f"<i{word}" if word > 1 else "u1"),
            shape,
            (stride, word),
        )
        return torch.from_numpy(rows)

    return DeviceBuffers(blocks.map, size_bytes, CPU, contextlib.nullcontext, rows_at)


@st.composite
def cases(draw: st.DrawFn) -> tuple[int, int, int, Cells]:
    """Return regions, bytes of a block, its stride, and cells of six blocks."""
    unit = draw(st.sampled_from([1, 8]))
    regions = draw(st.integers(1, 4))
    length = draw(st.integers(1, 12)) * unit
    offset = draw(st.integers(0, 3)) * unit
    stride = offset + length + draw(st.integers(0, 3)) * unit
    ids = draw(st.lists(st.integers(0, 5), min_size=1, max_size=6, unique=True))
    count = regions * len(ids)
    first = draw(st.integers(0, count - 1))
    numbers = range(first, draw(st.integers(first + 1, count)))
    return regions, offset + length, stride, Cells(tuple(ids), (offset, length), numbers)


def wanted(blocks: HostBlocks, cells: Cells) -> npt.NDArray[np.uint8]:
    """Return the bytes of *cells*, one after the other."""
    all_of_them = blocks.cells(cells.ids, cells.part).reshape(-1, cells.part[1])
    return all_of_them[list(cells.numbers)].reshape(-1)


@given(cases())
def test_both_kinds_load_the_cells_in_their_order(case: tuple[int, int, int, Cells]) -> None:
    regions, block_bytes, stride, cells = case
    blocks = host_blocks(regions, 6, block_bytes, stride_bytes=stride, seed=1)
    host, device = HostBuffers(blocks.map, 3000), device_buffers(blocks, 3000)
    for buffers in (host, device):
        buffers.load(1, cells)

        loaded = np.asarray(buffers.slots[1])[: cells.size_bytes]
        np.testing.assert_array_equal(loaded, wanted(blocks, cells))


@given(cases())
def test_both_kinds_unload_to_these_cells_and_no_other_byte(
    case: tuple[int, int, int, Cells],
) -> None:
    regions, block_bytes, stride, cells = case
    source = host_blocks(regions, 6, block_bytes, stride_bytes=stride, seed=1)
    expected = host_blocks(regions, 6, block_bytes, stride_bytes=stride, seed=2)
    offset, length = cells.part
    for number in cells.numbers:
        region, index = divmod(number, len(cells.ids))
        at = (region, cells.ids[index], slice(offset, offset + length))
        expected.memory[at] = source.memory[at]
    for make in (lambda blocks: HostBuffers(blocks.map, 3000), lambda b: device_buffers(b, 3000)):
        target = host_blocks(regions, 6, block_bytes, stride_bytes=stride, seed=2)
        buffers = make(target)
        np.asarray(buffers.slots[0])[: cells.size_bytes] = wanted(source, cells)
        buffers.unload(0, cells)

        np.testing.assert_array_equal(target.memory, expected.memory)


def test_parts_of_blocks_can_take_turns() -> None:
    blocks = host_blocks(2, 4, 16, seed=1)
    buffers = device_buffers(blocks, 64)
    for part in ((0, 8), (8, 8), (3, 5), (0, 8)):
        cells = Cells((2, 0), part, range(4))
        buffers.load(0, cells)

        loaded = np.asarray(buffers.slots[0])[: cells.size_bytes]
        np.testing.assert_array_equal(loaded, wanted(blocks, cells))


def test_the_checksum_is_of_so_many_bytes_and_of_its_seed() -> None:
    buffers = HostBuffers(host_blocks(1, 1, 8).map, 16)
    buffers.slots[0][:] = 7
    sums = [buffers.checksum(0, size, seed) for size, seed in ((8, 1), (8, 2), (9, 1))]
    buffers.slots[0][9] = 8

    assert len(set(sums)) == 3
    assert buffers.checksum(0, 9, 1) == sums[2]
    assert buffers.checksum(0, 8, 1 + 2**64) == sums[0]
