import dataclasses

import msgspec
import pytest

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.lease import Reader
from twofold_kvtransfer.side_channel import Hello, Host, Welcome

BLOCKS = BlockMap(addresses=(4096,), block_count=4, block_bytes=64, stride_bytes=64)
WELCOME = Welcome(worker="p", incarnation="1", blocks=BLOCKS, description=b"")
HOST = Host(WELCOME, compatibility="c1", transport="tcp", tensor_parallel=2, rank=1)
HELLO = Hello(compatibility="c1", transport="tcp", tensor_parallel=4, reader=Reader("d", "1", 2))


def test_a_reader_that_has_all_alike_is_welcome() -> None:
    assert HOST.why_not(HELLO) is None


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("version", 1, "another protocol version: 1 there, 4 here"),
        ("transport", "nixl", "another transport: nixl there, tcp here"),
        ("compatibility", "c2", "another engine, model or cache than c2 there"),
        ("tensor_parallel", 3, "tensor parallelism of 3 is not a multiple of 2"),
        ("tensor_parallel", 1, "tensor parallelism of 1 is not a multiple of 2"),
        ("tensor_parallel", 0, "tensor parallelism of 0 is not a multiple of 2"),
        ("tensor_parallel", -2, "tensor parallelism of -2 is not a multiple of 2"),
        ("reader", Reader("d", "1", 1), "rank 1 of 4 reads from another rank"),
        ("reader", Reader("d", "1", 4), "rank 4 of 4 reads from another rank"),
        ("reader", Reader("d", "1", -1), "rank -1 of 4 reads from another rank"),
    ],
)
def test_a_reader_is_refused_with_what_differs(field: str, value: object, reason: str) -> None:
    assert HOST.why_not(msgspec.structs.replace(HELLO, **{field: value})) == reason


@pytest.mark.parametrize(("theirs", "count"), [(2, 1), (4, 2), (8, 4)])
def test_a_reader_has_as_many_ranks_here_as_its_parallelism_is_of_ours(
    theirs: int, count: int
) -> None:
    hello = msgspec.structs.replace(HELLO, tensor_parallel=theirs)

    assert HOST.reader(hello) == dataclasses.replace(HELLO.reader, count=count)


def test_how_many_ranks_read_is_not_for_the_reader_to_say() -> None:
    hello = msgspec.structs.replace(HELLO, reader=Reader("d", "1", 2, count=99))

    assert HOST.reader(hello).count == 2
