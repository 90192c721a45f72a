from hypothesis import given
from hypothesis import strategies as st

from twofold_kvtransfer.transports.sockets.wire import (
    MAX_RUN_CELLS,
)
from twofold_kvtransfer.transports.tcp.chunks import CHUNK_BYTES, chunk_cells_for, chunks


@given(
    first=st.integers(0, 60),
    count=st.integers(1, 60),
    block_count=st.integers(1, 12),
    chunk_cells=st.integers(1, 40),
)
def test_chunks_are_parts_of_a_region_or_whole_regions(
    first: int, count: int, block_count: int, chunk_cells: int
) -> None:
    cut = list(chunks(range(first, first + count), block_count, chunk_cells))

    assert [cell for chunk in cut for cell in chunk] == list(range(first, first + count))
    for chunk in cut:
        assert 1 <= len(chunk) <= chunk_cells
        in_one = chunk.start // block_count == (chunk.stop - 1) // block_count
        assert in_one or (chunk.start % block_count, chunk.stop % block_count) == (0, 0)


def test_as_many_regions_as_fit_are_one_chunk() -> None:
    assert list(chunks(range(40), 4, 9)) == [range(at, at + 8) for at in range(0, 40, 8)]


def test_a_chunk_is_about_as_many_bytes_whatever_a_cell_has() -> None:
    sizes = (1, CHUNK_BYTES // 2, CHUNK_BYTES, 9 * CHUNK_BYTES)

    assert [chunk_cells_for(size) for size in sizes] == [MAX_RUN_CELLS, 2, 1, 1]
