"""One connection to a worker: one request at a time, and kept only while it is beyond doubt."""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from twofold_router.http.errors import BrokenError
from twofold_router.http.limits import ClientLimits
from twofold_router.http.response import Response
from twofold_router.http.response_reading import ResponseReader

_JOINED_BYTES = 64 * 1024
"""Up to here one write of head and body together costs less than two."""

Body = Sequence[bytes] | bytes | None


class Pool(Protocol):
    """Where a connection goes when it is free, and when it is lost."""

    def keep(self, connection: "ClientConnection", /) -> None: ...

    def forget(self, connection: "ClientConnection", /) -> None: ...


class ClientConnection(asyncio.Protocol):
    """Sends requests and gives on their answers.

    Invariant: ``_waiter`` is set from a request until its answer's head, ``_response`` from there
    until the answer's end. With neither the connection is idle, and any byte that comes ends it.
    ``_on_sent`` is set while a request that tells it waits for the worker to take the rest of it.
    """

    __slots__ = (
        "_create_future",
        "_is_paused",
        "_is_stalled",
        "_limits",
        "_on_sent",
        "_pool",
        "_reader",
        "_response",
        "_transport",
        "_waiter",
        "idle_until",
    )

    _transport: asyncio.Transport

    def __init__(self, limits: ClientLimits, pool: Pool) -> None:
        self.idle_until = math.inf
        self._limits = limits
        self._pool = pool
        self._reader = ResponseReader(limits)
        self._response: Response | None = None
        self._waiter: asyncio.Future[Response | BrokenError] | None = None
        self._create_future = asyncio.get_running_loop().create_future
        self._is_paused = False
        self._is_stalled = False
        self._on_sent: Callable[[], None] | None = None

    @property
    def is_closing(self) -> bool:
        """True when nothing can be sent any more."""
        return self._transport.is_closing()

    async def exchange(
        self, head: bytes, body: Body, *, is_head: bool, on_sent: Callable[[], None] | None
    ) -> Response:
        """Send a request and return its answer as soon as its head has come.

        Raises:
            BrokenError: the connection ended before that.
        """
        self._reader.begin(is_head=is_head)
        waiter: asyncio.Future[Response | BrokenError]
        self._waiter = waiter = self._create_future()
        try:
            self._send(head, body)
            if self._is_stalled:
                self._on_sent = on_sent
            elif on_sent is not None:
                on_sent()
            answer = await waiter
        except BaseException:
            self._give_up(waiter)
            raise
        if isinstance(answer, BrokenError):
            raise answer
        return answer

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's by class.
        self._transport = cast("asyncio.Transport", transport)
        # Then it tells of any byte that the kernel does not take at once, and when it has the last.
        self._transport.set_write_buffer_limits(0)

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        response = self._response
        if response is None and self._waiter is None:
            return self.abort()
        error = None
        try:
            reader.feed(data)
        except BrokenError as broken:
            error = broken
        if response is None:
            if not reader.has_head:
                return self._fail(error) if error is not None else None
            response = self._begin_response()
        if pieces := reader.pieces:
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            take_in = response.take_in
            take_in(piece)
        if reader.is_complete:
            self._complete(response)
        elif error is not None:
            self._fail(error)
        return None

    def eof_received(self) -> None:
        self._end(None)

    def pause_writing(self) -> None:
        self._is_stalled = True

    def resume_writing(self) -> None:
        self._is_stalled = False
        on_sent, self._on_sent = self._on_sent, None
        if on_sent is not None:
            on_sent()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error)
        self._pool.forget(self)
        self._reader.close()

    # What an answer calls.

    def pause_reading(self) -> None:
        if not self._is_paused and not self._transport.is_closing():
            self._is_paused = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._is_paused:
            self._is_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def abort(self) -> None:
        self._on_sent = None
        self._transport.abort()

    def _send(self, head: bytes, body: Body) -> None:
        if body is None:
            self._transport.write(head)
        elif isinstance(body, bytes) and len(body) <= _JOINED_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines([head, body] if isinstance(body, bytes) else [head, *body])

    def _give_up(self, waiter: asyncio.Future[Response | BrokenError]) -> None:
        """Abort what *waiter* waited for, which may have come without being seen, and gone on to
        leave this connection to others."""
        if self._waiter is waiter:
            self._waiter = None
            self.abort()
        elif not waiter.cancelled() and isinstance(answer := waiter.result(), Response):
            answer.close()

    def _begin_response(self) -> Response:
        reader = self._reader
        response = Response(self, reader.status, reader.headers, self._limits.read_ahead_bytes)
        self._response = response
        waiter, self._waiter = self._waiter, None
        assert waiter is not None
        if waiter.done():
            # Its task was cancelled, and has not run since.
            response.close()
        else:
            waiter.set_result(response)
        return response

    def _complete(self, response: Response) -> None:
        self._response = None
        response.end(None)
        transport = self._transport
        # An answer may come before its request was sent whole.
        is_whole = not transport.is_closing() and transport.get_write_buffer_size() == 0
        if self._reader.keeps and is_whole:
            self.resume_reading()
            self._pool.keep(self)
        else:
            self.abort()

    def _fail(self, error: BrokenError) -> None:
        waiter, self._waiter = self._waiter, None
        response, self._response = self._response, None
        if response is not None:
            response.end(error)
        elif waiter is not None and not waiter.done():
            waiter.set_result(error)
        self.abort()

    def _end(self, error: Exception | None) -> None:
        if self._response is None and self._waiter is None:
            return
        try:
            if error is not None:
                raise BrokenError(f"the connection broke: {error}") from error
            self._reader.end()
        except BrokenError as broken:
            self._fail(broken)
        else:
            assert self._response is not None
            self._complete(self._response)
