"""What a transport tells its peers of itself."""

import msgspec

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.codecs import KvShape, ShapeError
from twofold_kvtransfer.transports.port import PeerError
from twofold_kvtransfer.transports.sockets.settings import Port
from twofold_kvtransfer.transports.sockets.wire import KEY_BYTES, MAGIC
from twofold_kvtransfer.unreadable import UNREADABLE


class Description(msgspec.Struct, frozen=True, kw_only=True):
    magic: bytes = MAGIC
    host: str
    port: Port
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
    except (*UNREADABLE, ShapeError) as error:
        raise PeerError(f"not a description of the tcp transport: {error}") from error
    if description.magic != MAGIC or len(description.key) != KEY_BYTES:
        raise PeerError("a description of another version of the tcp transport")
    return description
