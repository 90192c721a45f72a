"""Doubles of this layer: a connection without a network."""

import asyncio
from typing import Any, cast


class MemoryTransport(asyncio.Transport):
    """What a protocol writes, by what the other side would see of it.

    ``sent`` has arrived. While ``stalled``, the other side reads nothing, and what is written waits
    as in a real transport: over the high-water mark the protocol is paused, and no byte arrives
    until ``flush``. ``late_count``: writes after the end, which are lost.
    """

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.sent = bytearray()
        self.stalled = False
        self.is_reading_paused = False
        self.has_ended = False
        self.is_aborted = False
        self.late_count = 0
        self._waiting = bytearray()
        self._high_bytes = 64 * 1024
        self._is_full = False
        self._is_closing = False
        self._is_lost = False
        # A TCP connection has the methods of asyncio.Protocol.
        self._protocol = cast("asyncio.Protocol", protocol)
        self._protocol.connection_made(self)

    def take(self) -> bytes:
        """Return what has arrived since the last call."""
        taken = bytes(self.sent)
        self.sent.clear()
        return taken

    def flush(self) -> None:
        """Have the other side read all that waits, and go on reading."""
        self.stalled = False
        self.sent += self._waiting
        self._waiting.clear()
        if self._is_full:
            self._is_full = False
            self._protocol.resume_writing()
        if self._is_closing:
            self._lose(None)

    def trickle(self, size_bytes: int) -> None:
        """Have the other side read so much of what waits, and no more."""
        self.sent += self._waiting[:size_bytes]
        del self._waiting[:size_bytes]

    def receive_eof(self) -> None:
        """Have the other side close its side."""
        if not self._protocol.eof_received():
            self.close()

    def lose(self, error: Exception) -> None:
        """Have the connection break."""
        self._is_closing = True
        self._lose(error)

    # asyncio.Transport.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing:
            self.late_count += 1
            return
        if not self.stalled:
            self.sent += data
            return
        self._waiting += data
        if len(self._waiting) > self._high_bytes and not self._is_full:
            self._is_full = True
            self._protocol.pause_writing()

    def write_eof(self) -> None:
        self.has_ended = True

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            if not self._waiting:
                self._lose(None)

    def abort(self) -> None:
        if not self.is_aborted:
            self.is_aborted = True
            self._is_closing = True
            self._waiting.clear()
            self._lose(None)

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        self.is_reading_paused = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is not None:
            self._high_bytes = high

    def get_write_buffer_size(self) -> int:
        return len(self._waiting)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def _lose(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = True
            # Later, as every event loop does.
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, error)
