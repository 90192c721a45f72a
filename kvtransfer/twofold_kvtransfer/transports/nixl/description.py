"""What a nixl transport tells its peers of itself."""

import msgspec

from twofold_kvtransfer.blocks import BlockMap, check_alike
from twofold_kvtransfer.transports.nixl.agent import nixl_version
from twofold_kvtransfer.transports.port import PeerError
from twofold_kvtransfer.unreadable import UNREADABLE

FORMAT = "twofold-nixl-1"


class Description(msgspec.Struct, frozen=True, kw_only=True):
    format: str = FORMAT
    nixl: str
    """Major and minor version."""
    agent: str
    """Its name, which is of one life of one transport."""
    metadata: bytes
    """Where NIXL finds the agent, and the keys to its memory."""
    block_bytes: int
    region_count: int
    memory: str


def describe(agent: str, metadata: bytes, blocks: BlockMap) -> bytes:
    return msgspec.msgpack.encode(
        Description(
            nixl=nixl_version(),
            agent=agent,
            metadata=metadata,
            block_bytes=blocks.block_bytes,
            region_count=blocks.region_count,
            memory=blocks.memory,
        )
    )


def read_description(data: bytes, local: BlockMap, remote: BlockMap) -> Description:
    """Return what the peer says of itself, if blocks of *remote* can be moved to *local*.

    Raises:
        PeerError: it is of another transport or version, or of other blocks than *remote*.
        InvalidBlocksError: a block of *remote* has not the regions and bytes of one of *local*.
    """
    try:
        peer = msgspec.msgpack.decode(data, type=Description)
    except UNREADABLE as error:
        raise PeerError(f"not a description of the nixl transport: {error}") from error
    here = (FORMAT, nixl_version())
    if (peer.format, peer.nixl) != here:
        raise PeerError(f"the peer speaks {peer.format} of NIXL {peer.nixl}, here it is {here}")
    check_alike(local, remote)
    if (
        peer.region_count != remote.region_count
        or peer.block_bytes < remote.block_bytes
        or peer.memory != remote.memory
    ):
        raise PeerError(
            f"the peer has {peer.block_bytes} bytes of a block in each of {peer.region_count}"
            f" regions of {peer.memory}, and {remote} is wanted"
        )
    return peer
