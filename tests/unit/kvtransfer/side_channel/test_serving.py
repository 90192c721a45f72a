import dataclasses

import msgspec
import pytest

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.lease import Reader
from twofold_kvtransfer.side_channel import Hello, Host, Welcome

BLOCKS = BlockMap(addresses=(4096,), block_count=4, block_bytes=64, stride_bytes=64)
WELCOME = Welcome(worker="p", incarnation="1", blocks=BLOCKS, description=b"")
HOST = Host(WELCOME, compatibility="c1", transport="tcp", tensor_parallel=2, rank=1)
HELLO = Hello(
    compatibility="c1",
    transport="tcp",
    tensor_parallel=4,
    block_bytes=32,
    reader=Reader("d", "1", 2),
)


def test_a_reader_that_has_all_alike_is_welcome() -> None:
    assert HOST.why_not(HELLO) is None


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("version", 1, "another protocol version: 1 there, 5 here"),
        ("transport", "nixl", "another transport: nixl there, tcp here"),
        ("compatibility", "c2", "another engine, model or cache than c2 there"),
        ("tensor_parallel", 3, "tensor parallelism of 3 is not a multiple of 2"),
        ("tensor_parallel", 1, "tensor parallelism of 1 is not a multiple of 2"),
        ("tensor_parallel", 0, "tensor parallelism of 0 is not a multiple of 2"),
        ("tensor_parallel", -2, "tensor parallelism of -2 is not a multiple of 2"),
        ("reader", Reader("d", "1", 1), "rank 1 of 4 reads from another rank"),
        ("reader", Reader("d", "1", 4), "rank 4 of 4 reads from another rank"),
        ("reader", Reader("d", "1", -1), "rank -1 of 4 reads from another rank"),
        ("block_bytes", 0, "blocks of 0 bytes of one of 2 ranks are no part of blocks of 64 bytes"),
        (
            "block_bytes",
            128,
            "blocks of 128 bytes of one of 2 ranks are no part of blocks of 64 bytes",
        ),
    ],
)
def test_a_reader_is_refused_with_what_differs(field: str, value: object, reason: str) -> None:
    assert HOST.why_not(msgspec.structs.replace(HELLO, **{field: value})) == reason


@pytest.mark.parametrize(
    ("theirs", "block_bytes", "rank", "count", "part"),
    [
        (2, 64, 1, 1, (0, 1)),
        (4, 32, 2, 2, (0, 2)),
        (4, 32, 3, 2, (1, 2)),
        (4, 64, 3, 2, (0, 1)),  # two ranks with the same head
        (8, 16, 6, 4, (2, 4)),
        (8, 32, 6, 4, (1, 2)),
    ],
)
def test_a_reader_has_as_many_ranks_here_as_its_parallelism_is_of_ours_and_reads_its_heads(
    theirs: int, block_bytes: int, rank: int, count: int, part: tuple[int, int]
) -> None:
    reader = Reader("d", "1", rank)
    hello = msgspec.structs.replace(
        HELLO, tensor_parallel=theirs, block_bytes=block_bytes, reader=reader
    )

    assert HOST.why_not(hello) is None
    assert HOST.reader(hello) == dataclasses.replace(reader, count=count, part=part)


def test_how_many_ranks_read_what_is_not_for_the_reader_to_say() -> None:
    hello = msgspec.structs.replace(HELLO, reader=Reader("d", "1", 2, count=99, part=(3, 4)))

    assert HOST.reader(hello) == Reader("d", "1", 2, count=2, part=(0, 2))
