"""One client connection at the protocol level, so that the load generator costs little."""

import asyncio
import time
from dataclasses import dataclass
from typing import cast

import httptools

from benchmarks.load import OK, REFUSED

DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class Exchange:
    """What came back for one request."""

    is_stream: bool
    first_byte_at: float | None = None
    event_count: int = 0
    status: int | None = None
    has_retry_after: bool = False
    is_complete: bool = False
    tail: bytes = b""

    @property
    def outcome(self) -> str:
        """The status of a whole answer; else what was wrong with it."""
        if self.status is None:
            return "no answer"
        if not self.is_complete:
            return "cut"
        if self.status == 200 and self.is_stream and not self.tail.endswith(DONE):
            return "not ended by [DONE]"
        if str(self.status) == REFUSED and not self.has_retry_after:
            return f"{REFUSED} without Retry-After"
        return OK if self.status == 200 else str(self.status)


class Connection(asyncio.Protocol):
    """Sends one request after the other; ``usable`` says whether it can take another."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport
        self._exchange: Exchange | None = None
        self._done: asyncio.Future[None] | None = None
        self.usable = True

    async def send(self, parts: list[bytes | memoryview], exchange: Exchange) -> None:
        """Send a request and fill *exchange*; return when the answer or the connection ended."""
        assert self.usable
        assert self._exchange is None
        self._exchange = exchange
        self._parser = httptools.HttpResponseParser(self)
        self._done = self._loop.create_future()
        self._transport.writelines(parts)
        try:
            await self._done
        finally:
            self._exchange = None

    def close(self) -> None:
        """Go away, whatever was going on."""
        self.usable = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._end()

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            self.close()  # an answer that nobody asked for
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after" and self._exchange is not None:
            self._exchange.has_retry_after = True

    def on_headers_complete(self) -> None:
        assert self._exchange is not None
        self._exchange.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        if exchange.first_byte_at is None:
            exchange.first_byte_at = time.perf_counter()  # the loop's clock counts in ms
        if exchange.is_stream:
            # An end of an event may be cut in two.
            exchange.event_count += (exchange.tail[-1:] + body).count(b"\n\n")
            exchange.tail = (exchange.tail + body)[-len(DONE) :]

    def on_message_complete(self) -> None:
        assert self._exchange is not None
        self._exchange.is_complete = True
        if not self._parser.should_keep_alive():
            self.close()
        self._end()

    def _end(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
