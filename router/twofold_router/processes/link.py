"""One end of the stream between two processes of a router.

A frame is a length of four bytes and a message in MessagePack. What is sent in one turn of the
event loop goes out in one write, and what arrives together is read together.
"""

import asyncio
import logging
import struct
from collections.abc import Callable, Mapping
from typing import Any, Union, cast

import msgspec

from twofold_router.processes.messages import Message

MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Far above any message: the key of a prompt of 32 MiB has a third of a MiB."""

MAX_UNREAD_BYTES = 256 * 1024 * 1024
"""Written and not read by the other process: it has hung, and is given up."""

Handlers = Mapping[type[Message], Callable[[Any], None]]
"""What is done with each type of message that may come."""

_LENGTH = struct.Struct("<I")

_log = logging.getLogger(__name__)


class Link(asyncio.Protocol):
    """Sends and receives messages until one of the processes ends."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()
        self._handlers: Handlers = {}
        self._on_lost: Callable[[], None] = lambda: None
        self._encode_into = msgspec.msgpack.Encoder().encode_into
        self._decode: Callable[[bytes | bytearray], Message] = msgspec.msgpack.decode
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._outgoing = bytearray()
        self._incoming = bytearray()

    def receive(self, handlers: Handlers, on_lost: Callable[[], None]) -> None:
        """Set what is done with each type of message, before the link is connected.

        A handler that fails is a bug: the event loop's handler is told of the error, and the link
        is given up.
        """
        self._handlers = handlers
        self._on_lost = on_lost
        self._decode = decoder_of(handlers)

    def send(self, message: Message) -> None:
        """Send *message* as it is now; to a process that has gone it does nothing.

        Raises:
            OverflowError, TypeError: MessagePack cannot hold it; nothing is sent then.
        """
        if self._transport is None:
            return
        outgoing = self._outgoing
        start = len(outgoing)
        if not start:
            self._loop.call_soon(self._flush)
        outgoing += bytes(_LENGTH.size)
        try:
            self._encode_into(message, outgoing, -1)
        except BaseException:
            del outgoing[start:]  # half a message would end the link
            raise
        _LENGTH.pack_into(outgoing, start, len(outgoing) - start - _LENGTH.size)

    async def close(self) -> None:
        """Send what is left, and end the stream."""
        self._flush()
        if self._transport is not None:
            self._transport.close()
        await self.lost.wait()

    def abort(self) -> None:
        """End the stream now."""
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio.Transport, but not the class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        incoming = self._incoming
        incoming += data
        start, end = 0, len(incoming)
        while end - start >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(incoming, start)
            if size > MAX_FRAME_BYTES:
                self._give_up("a frame is too long", size)
                return
            if end - start < _LENGTH.size + size:
                break
            start += _LENGTH.size + size
            message = self._decode(incoming[start - size : start])
            self._handlers[type(message)](message)
        del incoming[:start]

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._outgoing.clear()
        self.lost.set()
        self._on_lost()

    def _flush(self) -> None:
        if self._transport is None or not self._outgoing:
            return
        outgoing, self._outgoing = self._outgoing, bytearray()
        self._transport.write(outgoing)
        unread = self._transport.get_write_buffer_size()
        if unread > MAX_UNREAD_BYTES:
            self._give_up("the other process does not read", unread)

    def _give_up(self, why: str, size_bytes: int) -> None:
        _log.error("a link is given up", extra={"why": why, "size_bytes": size_bytes})
        self.abort()


def decoder_of(handlers: Handlers) -> Callable[[bytes | bytearray], Message]:
    """Return what reads each type of message that *handlers* has something for."""
    union: Any = Union[tuple(handlers)]  # noqa: UP007 - made from a list
    return msgspec.msgpack.Decoder(union).decode
