"""Frames on a stream, and a stream whose end is noticed."""

import asyncio
import socket

from twofold_kvtransfer.side_channel.messages import MAX_FRAME_BYTES, ProtocolError

VANISHED_SECONDS = 15
"""How long a peer's host may be silent until it counts as gone. Half of a lease."""

_PROBE_SECONDS = 3


async def read_frame(
    reader: asyncio.StreamReader, max_bytes: int = MAX_FRAME_BYTES
) -> bytes | None:
    """Read one frame; None: the peer has closed the connection between two of them.

    Raises:
        ProtocolError: the frame is too long, or cut off.
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
        return await reader.readexactly(size)
    except asyncio.IncompleteReadError as error:
        raise ProtocolError("the connection ended inside a frame") from error


def notice_vanished_host(writer: asyncio.StreamWriter) -> None:
    """Have the kernel end the connection when the peer's host has gone without a word (tcp(7)).

    A process that dies closes its connections, a host that loses its power does not.
    """
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, VANISHED_SECONDS // _PROBE_SECONDS - 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_SECONDS * 1000)
