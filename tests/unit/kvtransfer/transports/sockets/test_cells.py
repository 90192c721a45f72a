import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_kvtransfer.transports.sockets.cells import RUN_BYTES, Regions, run_cells_for
from twofold_kvtransfer.transports.sockets.wire import (
    MAX_RUN_CELLS,
)
from twofold_kvtransfer.transports.testing import host_blocks


@given(
    ids=st.lists(st.integers(0, 5), min_size=1, max_size=8),
    gap=st.integers(0, 3),
    run_cells=st.integers(1, 9),
    data=st.data(),
)
def test_runs_hold_the_cells_region_by_region(
    ids: list[int], gap: int, run_cells: int, data: st.DataObject
) -> None:
    blocks = host_blocks(3, 6, 10, stride_bytes=10 + gap, seed=1)
    first = data.draw(st.integers(0, 3 * len(ids) - 1))
    stop = data.draw(st.integers(first + 1, 3 * len(ids)))
    offset = data.draw(st.integers(0, 9))
    length = data.draw(st.integers(1, 10 - offset))
    runs = Regions(blocks.map).runs(ids, (offset, length), range(first, stop), run_cells)
    found = [b"".join(run) for run in runs]

    cells = blocks.cells(ids, (offset, length)).reshape(3 * len(ids), length)[first:stop]
    starts = range(0, len(cells), run_cells)
    assert found == [cells[start : start + run_cells].tobytes() for start in starts]


def test_neighbours_without_a_gap_are_one_piece() -> None:
    blocks = host_blocks(2, 8, 10, seed=1)
    runs = list(Regions(blocks.map).runs([1, 2, 3, 5, 6], (0, 10), range(10), 100))

    assert [list(map(len, run)) for run in runs] == [[30, 20, 30, 20]]


def test_a_run_is_written_through_to_the_blocks() -> None:
    blocks = host_blocks(1, 3, 4)
    [[piece]] = Regions(blocks.map).runs([1], (1, 2), range(1), 10)
    piece[:] = b"\x07\x08"

    np.testing.assert_array_equal(blocks.memory[0], [[0] * 4, [0, 7, 8, 0], [0] * 4])


@pytest.mark.parametrize(
    ("cell_bytes", "cells"),
    [
        (1, MAX_RUN_CELLS),
        (RUN_BYTES // 2, 2),
        (RUN_BYTES // 2 + 1, 1),
        (RUN_BYTES, 1),
        (100 * RUN_BYTES, 1),
    ],
)
def test_a_run_is_about_as_many_bytes_whatever_a_cell_has(cell_bytes: int, cells: int) -> None:
    assert run_cells_for(cell_bytes) == cells
