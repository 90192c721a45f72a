import msgspec
import pytest

from twofold_kvtransfer.blocks import BlockMap, InvalidBlocksError
from twofold_kvtransfer.transports.sockets.parts import part_of

BLOCKS = BlockMap(addresses=(1000, 5000), block_count=10, block_bytes=48, stride_bytes=64)


@pytest.mark.parametrize(
    ("index", "count", "part"),
    [(0, 1, (0, 48)), (0, 2, (0, 24)), (1, 2, (24, 24)), (2, 3, (32, 16))],
)
def test_a_part_is_where_it_lies_in_a_block(index: int, count: int, part: tuple[int, int]) -> None:
    assert part_of(BLOCKS.part(index, count), BLOCKS) == part


@pytest.mark.parametrize(
    "changes",
    [
        {"addresses": (999, 4999)},
        {"addresses": (1001, 5001)},
        {"addresses": (1000, 5001)},
        {"addresses": (1000,)},
        {"addresses": (1000, 5000, 9000)},
        {"stride_bytes": 65},
        {"block_count": 11},
    ],
    ids=str,
)
def test_what_lies_elsewhere_is_no_part(changes: dict[str, object]) -> None:
    with pytest.raises(InvalidBlocksError):
        part_of(msgspec.structs.replace(BLOCKS, **changes), BLOCKS)
