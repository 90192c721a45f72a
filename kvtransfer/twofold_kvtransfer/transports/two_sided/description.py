"""What a transport tells its peers of itself."""

import msgspec

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.transports.port import PeerError
from twofold_kvtransfer.transports.sockets.settings import Port
from twofold_kvtransfer.transports.sockets.wire import KEY_BYTES
from twofold_kvtransfer.unreadable import UNREADABLE

FORMAT = "two-sided-1"


class Description(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """An array, so that no other transport takes it for its own."""

    format: str = FORMAT
    library: str
    host: str
    port: Port
    key: bytes
    """Of one life of the transport; presented by those who connect."""
    blocks: BlockMap
    """All of them."""


def encode_description(description: Description) -> bytes:
    return msgspec.msgpack.encode(description)


def decode_description(data: bytes, library: str) -> Description:
    """Raises:
    PeerError: it is not of a transport over *library* and of this version.
    """
    try:
        description = msgspec.msgpack.decode(data, type=Description)
    except UNREADABLE as error:
        raise PeerError(f"not a description of the {library} transport: {error}") from error
    if description.library != library:
        raise PeerError(f"a description of the {description.library} transport, not of {library}")
    if description.format != FORMAT or len(description.key) != KEY_BYTES:
        raise PeerError(f"a description of another version of the {library} transport")
    return description
