"""What is coded at once, which both sides of a transfer cut alike."""

from collections.abc import Iterator

from twofold_kvtransfer.transports.sockets.wire import MAX_RUN_CELLS

CHUNK_BYTES = 1 << 20
"""Of the cache, about: long enough that the calls of a codec cost little, short enough that a few
are in a transfer and the stages overlap."""

MAX_CHUNK_BYTES = 2 << 20
"""That a peer may ask for at once, unless a single cell has more."""


def chunk_cells_for(cell_bytes: int) -> int:
    """Return how many cells of *cell_bytes* make a chunk."""
    return max(1, min(MAX_RUN_CELLS, CHUNK_BYTES // cell_bytes))


def chunks(cells: range, block_count: int, chunk_cells: int) -> Iterator[range]:
    """Cut *cells* of *block_count* blocks into chunks of at most *chunk_cells*.

    A chunk is some cells of one region, or whole regions if so many fit, since these are what a
    codec takes.
    """
    first = cells.start
    while first < cells.stop:
        index = first % block_count
        most = min(chunk_cells, cells.stop - first)
        if index == 0 and most >= block_count:
            count = most - most % block_count
        else:
            count = min(most, block_count - index)
        yield range(first, first + count)
        first += count
