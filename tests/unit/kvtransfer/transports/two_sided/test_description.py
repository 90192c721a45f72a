"""What a two-sided transport tells its peers."""

from typing import Any

import msgspec
import pytest

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.transports import PeerError
from twofold_kvtransfer.transports.tcp.description import decode_description as decode_tcp
from twofold_kvtransfer.transports.two_sided.description import (
    Description,
    decode_description,
    encode_description,
)

BLOCKS = BlockMap(addresses=(1000,), block_count=8, block_bytes=100, stride_bytes=100)
DESCRIPTION = Description(library="gloo", host="::1", port=1, key=b"k" * 16, blocks=BLOCKS)


def test_a_description_says_what_it_was_made_of() -> None:
    assert decode_description(encode_description(DESCRIPTION), "gloo") == DESCRIPTION


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"library": "nccl"}, "the nccl transport"),
        ({"format": "two-sided-0"}, "another version"),
        ({"key": b"short"}, "another version"),
    ],
)
def test_that_of_another_library_or_version_is_refused(change: dict[str, Any], told: str) -> None:
    other = encode_description(msgspec.structs.replace(DESCRIPTION, **change))

    with pytest.raises(PeerError, match=told):
        decode_description(other, "gloo")


def test_the_tcp_transport_does_not_take_it_for_its_own() -> None:
    with pytest.raises(PeerError):
        decode_tcp(encode_description(DESCRIPTION))


def test_a_host_that_is_no_text_is_refused() -> None:
    data = encode_description(DESCRIPTION).replace(b"::1", b"\xff:1")

    with pytest.raises(PeerError, match="utf-8"):
        decode_description(data, "gloo")


def test_a_description_nested_without_end_is_refused() -> None:
    data = b"\x97\xabtwo-sided-1\xa4gloo\xa1h\x01\xc4\x01k\x86" + b"\xa1x" + b"\x91" * 10**6

    with pytest.raises(PeerError, match="recursion"):
        decode_description(data, "gloo")


@pytest.mark.parametrize("port", [-5, 0, 65536])
def test_a_port_that_no_host_has_is_refused(port: int) -> None:
    data = encode_description(msgspec.structs.replace(DESCRIPTION, port=port))

    with pytest.raises(PeerError, match="not a description"):
        decode_description(data, "gloo")
