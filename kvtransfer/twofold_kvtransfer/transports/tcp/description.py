"""What a transport tells its peers of itself."""

import msgspec

from twofold_kvtransfer.blocks import BlockMap, InvalidBlocksError
from twofold_kvtransfer.codecs import KvShape, ShapeError
from twofold_kvtransfer.transports.port import PeerError
from twofold_kvtransfer.transports.tcp.wire import KEY_BYTES, MAGIC


class Description(msgspec.Struct, frozen=True, kw_only=True):
    magic: bytes = MAGIC
    host: str
    port: int
    key: bytes
    """Of one life of the transport; presented by those who connect."""
    blocks: BlockMap
    """All of them."""
    shape: KvShape | None = None
    """Of what lies in them, if this side codes."""


def encode_description(description: Description) -> bytes:
    return msgspec.msgpack.encode(description)


def decode_description(data: bytes) -> Description:
    """Raises:
    PeerError: it is not a description of this transport and version.
    """
    try:
        description = msgspec.msgpack.decode(data, type=Description)
    except (msgspec.DecodeError, InvalidBlocksError, ShapeError) as error:
        raise PeerError(f"not a description of the tcp transport: {error}") from error
    if description.magic != MAGIC or len(description.key) != KEY_BYTES:
        raise PeerError("a description of another version of the tcp transport")
    return description


def part_of(wanted: BlockMap, described: BlockMap) -> tuple[int, int]:
    """Return offset and length, within a block of *described*, of what *wanted* has of it.

    Raises:
        InvalidBlocksError: *wanted* is no part of *described*.
    """
    offset = wanted.addresses[0] - described.addresses[0]
    pairs = zip(wanted.addresses, described.addresses, strict=False)
    offsets = {inner - outer for inner, outer in pairs}
    if (
        offsets != {offset}
        or wanted.region_count != described.region_count
        or wanted.stride_bytes != described.stride_bytes
        or wanted.block_count > described.block_count
        or not 0 <= offset <= described.block_bytes - wanted.block_bytes
    ):
        raise InvalidBlocksError("the blocks wanted are no part of those that the peer described")
    return offset, wanted.block_bytes
