"""The chunks of a request."""

import tracemalloc
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from twofold_kvtransfer.transports.sockets.wire import (
    Direction,
    Request,
)
from twofold_kvtransfer.transports.two_sided.moving import course

LINE: Any = None
REQUEST = Request(Direction.READ, True, 1, 1, part_offset=0, part_bytes=8, first=0, count=1)


@given(st.integers(0, 50), st.integers(1, 50), st.integers(1, 20))
def test_the_chunks_are_all_cells_in_their_order(first: int, count: int, run_cells: int) -> None:
    request = replace(REQUEST, first=first, count=count, run_cells=run_cells)
    moving = course(LINE, request, 5, (3,), (0, 8))
    chunks = [moving.chunk(number) for number in range(moving.chunk_count)]

    assert [n for chunk in chunks for n in chunk.numbers] == list(range(first, first + count))
    assert {len(chunk.numbers) for chunk in chunks[:-1]} <= {run_cells}
    assert 1 <= len(chunks[-1].numbers) <= run_cells


def test_a_request_of_many_chunks_takes_no_memory_for_them() -> None:
    request = replace(REQUEST, count=100_000)
    tracemalloc.start()
    try:
        moving = course(LINE, request, 5, (3,), (0, 8))
        assert moving.chunk(99_999).numbers == range(99_999, 100_000)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert moving.chunk_count == 100_000
    assert peak_bytes < 100_000
