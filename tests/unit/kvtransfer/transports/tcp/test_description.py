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


def test_a_host_that_is_no_text_is_refused() -> None:
    data = encode_description(DESCRIPTION).replace(b"10.0.0.1", b"\xff0.0.0.1")

    with pytest.raises(PeerError, match="utf-8"):
        decode_description(data)


def test_a_description_nested_without_end_is_refused() -> None:
    data = b"\x81\xa1x" + b"\x91" * 10**6

    with pytest.raises(PeerError, match="recursion"):
        decode_description(data)


@pytest.mark.parametrize("port", [-5, 0, 65536])
def test_a_port_that_no_host_has_is_refused(port: int) -> None:
    data = encode_description(msgspec.structs.replace(DESCRIPTION, port=port))

    with pytest.raises(PeerError, match="not a description"):
        decode_description(data)
