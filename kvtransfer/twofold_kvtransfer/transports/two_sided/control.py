"""The TCP connection of a line, on which its two sides agree."""

import enum
import select
import socket
import struct

from twofold_kvtransfer.transports.sockets.connection import Connection
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError

MAX_MESSAGE_BYTES = 1 << 16
"""Of those with which a communicator is made: addresses, or an id of NCCL's."""

_SIZE = struct.Struct("<I")
_STEP = struct.Struct("<B Q")
_ENDED = select.POLLRDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL


class Step(enum.IntEnum):
    """What is to become of the next chunk of a transfer."""

    GO = 1
    STOP = 2
    """It is not wanted, nor are those after it."""


class Control:
    """One thread uses it and closes it; any may cut it. It is the mailbox of its line."""

    def __init__(self, sock: socket.socket, idle_seconds: float) -> None:
        self._socket = sock
        self.connection = Connection(sock, idle_seconds)

    def put(self, message: bytes) -> None:
        assert len(message) <= MAX_MESSAGE_BYTES, len(message)
        self.connection.send_bytes(_SIZE.pack(len(message)), message)

    def take(self) -> bytes:
        (size,) = _SIZE.unpack(self.connection.receive_bytes(_SIZE.size))
        if size > MAX_MESSAGE_BYTES:
            raise TransferError(Failure.PROTOCOL, f"a message of {size} bytes")
        return self.connection.receive_bytes(size)

    def has_ended(self) -> bool:
        """Whether the peer has ended its side, or the kernel has found it gone; unlike a read it
        sees that past what has arrived and nobody has read yet."""
        number = self._socket.fileno()
        if number < 0:
            return True
        look = select.poll()
        look.register(number, _ENDED)
        return bool(look.poll(0))

    def tell(self, step: Step, checksum: int = 0) -> None:
        self.connection.send_bytes(_STEP.pack(step, checksum))

    def hear(self) -> tuple[Step, int]:
        """Raises:
        TransferError: the peer has gone, is silent, or says what makes no sense.
        """
        step, checksum = _STEP.unpack(self.connection.receive_bytes(_STEP.size))
        if step not in Step.__members__.values():
            raise TransferError(Failure.PROTOCOL, "a step of no kind")
        return Step(step), checksum
