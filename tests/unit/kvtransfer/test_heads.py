"""Which heads ranks read, against vLLM's rule of which rank has which."""

from collections.abc import Iterator

import pytest

from twofold_kvtransfer.blocks import InvalidBlocksError
from twofold_kvtransfer.heads import part_read


def heads_of(rank: int, tensor_parallel: int, total: int) -> list[int]:
    """As vLLM's ``QKVParallelLinear`` has it."""
    if tensor_parallel >= total:
        count, replicas = 1, tensor_parallel // total
    else:
        count, replicas = total // tensor_parallel, 1
    first = rank // replicas * count
    return list(range(first, first + count))


def pairs(total: int) -> Iterator[tuple[int, int]]:
    """The parallelism of a holder and of a reader, of those that vLLM and we take."""
    sizes = [tp for tp in range(1, 33) if total % tp == 0 or tp % total == 0]
    for there in sizes:
        yield from ((there, here) for here in sizes if here % there == 0)


@pytest.mark.parametrize("total", [1, 2, 3, 4, 6, 8, 16])
def test_each_rank_reads_the_heads_that_it_has(total: int) -> None:
    for there, here in pairs(total):
        each = here // there
        for rank in range(here):
            at_holder = heads_of(rank // each, there, total)
            wanted = heads_of(rank, here, total)

            index, count = part_read(
                rank, each, there_bytes=96 * len(at_holder), here_bytes=96 * len(wanted)
            )

            size = len(at_holder) // count
            assert at_holder[index * size : (index + 1) * size] == wanted, (there, here, rank)


@pytest.mark.parametrize(
    ("rank_count", "there_bytes", "here_bytes"),
    [
        (2, 64, 48),  # not whole
        (2, 64, 16),  # four parts for two ranks
        (3, 64, 32),  # two parts for three ranks
        (1, 64, 128),  # more than there is
        (1, 64, 32),  # as many ranks, and other blocks
        (2, 64, 0),
        (2, 64, -32),
    ],
)
def test_blocks_that_no_sharing_makes_are_refused(
    rank_count: int, there_bytes: int, here_bytes: int
) -> None:
    with pytest.raises(InvalidBlocksError, match=f"blocks of {here_bytes} bytes of one of"):
        part_read(0, rank_count, there_bytes=there_bytes, here_bytes=here_bytes)
