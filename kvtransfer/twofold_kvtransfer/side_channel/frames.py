"""Frames on a stream, and a stream whose end is noticed."""

import asyncio

from twofold_kvtransfer.side_channel.messages import MAX_FRAME_BYTES, ProtocolError
from twofold_kvtransfer.vanishing import notice_vanished_host

VANISHED_SECONDS = 15
"""How long a peer's host may be silent until it counts as gone. Half of a lease."""

FRAME_SECONDS = 10.0
"""From the length of a frame to its end: it is written at once, so only a network that fails needs
so long. What waits for a frame has no memory taken, and waits without a limit."""


async def read_frame(
    reader: asyncio.StreamReader,
    max_bytes: int = MAX_FRAME_BYTES,
    within_seconds: float = FRAME_SECONDS,
) -> bytes | None:
    """Read one frame; None: the peer has closed the connection between two of them.

    Raises:
        ProtocolError: the frame is too long, cut off, or does not end *within_seconds*.
    """
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise ProtocolError("the connection ended inside a frame") from error
        return None
    if size > max_bytes:
        raise ProtocolError(f"a frame of {size} bytes; at most {max_bytes} are taken")
    try:
        async with asyncio.timeout(within_seconds):
            return await reader.readexactly(size)
    except TimeoutError as error:
        raise ProtocolError(f"a frame that does not end in {within_seconds:g} s") from error
    except asyncio.IncompleteReadError as error:
        raise ProtocolError("the connection ended inside a frame") from error


def notice_end(writer: asyncio.StreamWriter) -> None:
    """Have the kernel end the connection when the peer's host has gone without a word."""
    notice_vanished_host(writer.get_extra_info("socket"), VANISHED_SECONDS)
