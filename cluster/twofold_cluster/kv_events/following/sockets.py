"""What all sockets to a publisher have in common."""

import zmq.asyncio

MAX_MESSAGE_BYTES = 64 * 2**20
"""One step of an engine stores some thousand tokens, so some ten kilobytes."""


def bound_memory(socket: zmq.asyncio.Socket, max_messages: int) -> None:
    """Bound what *socket* keeps while nobody reads it, and after its end."""
    socket.linger = 0
    socket.rcvhwm = max_messages
    socket.maxmsgsize = MAX_MESSAGE_BYTES
    socket.ipv6 = True  # as well as IPv4
