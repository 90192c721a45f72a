import msgspec
import pytest

from twofold_kvtransfer.blocks import BlockMap, InvalidBlocksError
from twofold_kvtransfer.transports import PeerError
from twofold_kvtransfer.transports.tcp.description import (
    Description,
    decode_description,
    encode_description,
    part_of,
)

BLOCKS = BlockMap(addresses=(1000, 5000), block_count=10, block_bytes=48, stride_bytes=64)
DESCRIPTION = Description(host="10.0.0.1", port=4000, key=b"k" * 16, blocks=BLOCKS)


def test_a_description_is_read_as_it_was_written() -> None:
    assert decode_description(encode_description(DESCRIPTION)) == DESCRIPTION


@pytest.mark.parametrize(
    "changes", [{"magic": b"2FOLDKV\x01"}, {"magic": b""}, {"key": b"short"}], ids=str
)
def test_a_description_of_another_version_is_refused(changes: dict[str, bytes]) -> None:
    other = msgspec.structs.replace(DESCRIPTION, **changes)

    with pytest.raises(PeerError, match="version"):
        decode_description(encode_description(other))


def test_a_description_of_impossible_blocks_is_refused() -> None:
    data = encode_description(DESCRIPTION).replace(b"block_count\x0a", b"block_count\x00")

    with pytest.raises(PeerError):
        decode_description(data)


def test_a_description_cut_short_is_refused() -> None:
    data = encode_description(DESCRIPTION)

    for size in range(len(data)):
        with pytest.raises(PeerError):
            decode_description(data[:size])


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
