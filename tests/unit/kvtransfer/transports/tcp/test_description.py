import msgspec
import pytest

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.transports import PeerError
from twofold_kvtransfer.transports.tcp.description import (
    Description,
    decode_description,
    encode_description,
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
