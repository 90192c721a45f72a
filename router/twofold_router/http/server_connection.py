"""One connection of a client: its requests one after the other, and every way in which it ends."""

import asyncio
import math
import socket
import struct
from collections import deque
from typing import cast

from twofold_router.http.backpressure import Backpressure
from twofold_router.http.refusals import Refusal, RefusedError
from twofold_router.http.request import Request
from twofold_router.http.request_reading import SLICE_BYTES, Phase, RequestReader
from twofold_router.http.responding import Responder
from twofold_router.http.serving import Serving

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# Closing sends a reset instead of a regular end, and drops what was not sent.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

_APOLOGY_COUNT = 64
"""Connections over the limit that are still told so; the others are reset."""

_REFUSED_REQUEST = Request("GET", "", "", {}, keep_alive=False, is_http_1_0=False)

_IDLE, _BODY = Phase.IDLE, Phase.BODY


class ServerConnection(asyncio.Protocol):
    """Reads requests ahead, within bounds, and answers them in order, one at a time.

    Invariant: ``_responder`` is the answer being given, None between requests; ``_ahead`` is what
    waits for it: requests, then perhaps the refusal of what could not be read after them. When
    ``_is_deaf``, what comes in is discarded, up to ``_may_discard_bytes``; when ``_is_over``,
    nothing more is answered either. ``_skips_body``: what is discarded is the rest of a body.
    ``_unread_bytes``: of answers, when their client's deadline was last set.
    """

    __slots__ = (
        "_ahead",
        "_discarded_bytes",
        "_held",
        "_is_deaf",
        "_is_over",
        "_is_paused",
        "_limits",
        "_may_discard_bytes",
        "_phase",
        "_reader",
        "_responder",
        "_serving",
        "_skips_body",
        "_transport",
        "_unread_bytes",
        "deadline",
        "pressure",
        "write",
    )

    _transport: asyncio.Transport

    def __init__(self, serving: Serving) -> None:
        self.deadline = math.inf
        self._serving = serving
        self._limits = serving.limits
        self._reader = RequestReader(serving.limits, self._take)
        self._phase = _IDLE
        self._ahead: deque[Request | RefusedError] = deque()
        self._responder: Responder | None = None
        self.pressure = Backpressure()
        self._unread_bytes: float = 0
        self._held = b""
        self._discarded_bytes = 0
        self._may_discard_bytes = serving.limits.linger_bytes
        self._is_paused = False
        self._is_deaf = False
        self._is_over = False
        self._skips_body = False

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's by class.
        self._transport = cast("asyncio.Transport", transport)
        self.write = self._transport.write
        self._transport.set_write_buffer_limits(high=self._limits.write_buffer_bytes)
        connections = self._serving.connections
        connections.add(self)
        excess = len(connections) - self._limits.connection_count
        if excess <= 0:
            self._set_deadline()
        elif excess <= _APOLOGY_COUNT:
            self._refuse(RefusedError(Refusal.TOO_MANY_CONNECTIONS, "too many connections"))
        else:
            self.abort()

    def data_received(self, data: bytes) -> None:
        if self._is_deaf:
            self._discard(len(data))
        elif self._is_paused:
            self._held += data
        else:
            self._read(data)

    def eof_received(self) -> None:
        """Take the end of the client's side for its leaving, as nginx, Envoy and hyper do: it is
        what a client that gave up looks like, and one that waits need not close its side."""
        if self._responder is not None:
            self.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._is_over = self._is_deaf = True
        self._leave()
        self.pressure.end()
        self._serving.forget(self)
        self._reader.close()

    def pause_writing(self) -> None:
        self._wait_for_reader(self._transport.get_write_buffer_size())
        self.pressure.rise()

    def resume_writing(self) -> None:
        self.pressure.fall()
        self._set_deadline()

    # What an answer calls.

    def answered(self, *, closes: bool) -> None:
        self._responder = None
        if closes or self._serving.is_draining:
            self._linger()
            return
        if self._ahead:
            self._answer_next()
        if self._is_paused and len(self._ahead) < self._limits.pipelined_count:
            self._read_on()
        if self._responder is None and not self._is_over:
            self._wait()

    # What the server calls.

    def expire(self) -> None:
        """End what was not done until the deadline."""
        unread_bytes = self._transport.get_write_buffer_size()
        if self.pressure.is_full or (self._is_over and unread_bytes):
            if unread_bytes < self._unread_bytes:
                self._wait_for_reader(unread_bytes)
            else:
                self.abort()
        elif self._is_over:
            # What the kernel still holds is the client's to read.
            self._transport.abort()
        elif self._reader.phase is _IDLE:
            self._close()
        else:
            what = "body" if self._reader.phase is _BODY else "header"
            refused = RefusedError(Refusal.TOO_SLOW, f"the {what} did not arrive in time")
            refused.path, refused.headers = self._reader.so_far()
            self._refuse(refused)

    def begin_drain(self) -> None:
        """Close if no request is under way. Otherwise its answer is the last."""
        if self._responder is None and self._reader.phase is _IDLE and not self._is_over:
            self._close()

    def abort(self) -> None:
        """End at once; the client sees that what it got is not whole."""
        self._is_over = self._is_deaf = True
        self._leave()
        connected: socket.socket | None = self._transport.get_extra_info("socket")
        if connected is not None and not self._transport.is_closing():
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    # Reading.

    def _read(self, data: bytes) -> None:
        reader = self._reader
        try:
            if len(data) <= SLICE_BYTES:
                reader.feed(data)
            else:
                self._read_in_slices(data)
            if reader.phase is _BODY and not reader.is_body_wanted:
                self._ask_for_body()
        except RefusedError as refused:
            refused.path, refused.headers = reader.so_far()
            self._is_deaf = True
            if refused.kind is Refusal.BODY_TOO_LARGE:
                self._skip_body(self._limits.refused_bytes)
            self._ahead.append(refused)
            if self._responder is None:
                self._answer_next()
            return
        if len(self._ahead) >= self._limits.pipelined_count:
            self._pause()
        if self._responder is None and not self._is_over:
            self._wait()

    def _read_in_slices(self, data: bytes) -> None:
        """Feed *data* no further than requests may be read ahead; hold the rest."""
        reader = self._reader
        at = 0
        while at < len(data) and not self._is_deaf:
            if len(self._ahead) >= self._limits.pipelined_count:
                self._held = data[at:]
                return
            size = reader.stride()
            reader.feed(data[at : at + size])
            at += size

    def _ask_for_body(self) -> None:
        """Have a request whose body nobody wants answered without it, before it is sent."""
        reader = self._reader
        request = reader.request
        assert request is not None
        reader.is_body_wanted = self._serving.wants_body(request)
        if not reader.is_body_wanted:
            self._skip_body(self._limits.linger_bytes + self._limits.body_bytes)
            request.keep_alive = False
            self._take(request)

    def _skip_body(self, size_bytes: int) -> None:
        """Let go of a body, and discard up to *size_bytes* of the rest."""
        self._skips_body = True
        self._may_discard_bytes = size_bytes
        self._reader.drop_body()

    def _take(self, request: Request) -> None:
        if not request.keep_alive:
            self._is_deaf = True
        if self._responder is None:
            self._start(request)
        else:
            self._ahead.append(request)

    def _start(self, request: Request) -> None:
        self._responder = responder = Responder(self, request, self._serving)
        if not self.pressure.is_full:
            self.deadline = math.inf
        self._serving.start(request, responder)

    def _answer_next(self) -> None:
        following = self._ahead.popleft()
        if isinstance(following, RefusedError):
            self._refuse(following)
        else:
            self._start(following)

    def _wait(self) -> None:
        """Wait for more of a request, or for a new one."""
        reader = self._reader
        if reader.expects_continue and reader.phase is _BODY:
            reader.expects_continue = False
            if not reader.body_bytes:
                self.write(_CONTINUE)
        if reader.phase is not self._phase or self.deadline == math.inf:
            self._phase = reader.phase
            self._set_deadline()

    def _pause(self) -> None:
        if not self._is_paused and not self._transport.is_closing():
            self._is_paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused:
            self._is_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def _read_on(self) -> None:
        """Read what was held, and more once that was not too much again."""
        held, self._held = self._held, b""
        self._resume()
        if held:
            self._read(held)

    def _discard(self, size_bytes: int) -> None:
        """Throw away what a refused client still sends, so that it comes to read the answer: a
        close with unread data would reset the connection and take the answer with it."""
        self._discarded_bytes += size_bytes
        if self._discarded_bytes > self._may_discard_bytes:
            if self._is_over:
                self._transport.abort()
            else:
                self._pause()

    def _refuse(self, refused: RefusedError) -> None:
        self._is_deaf = True
        headers, body = self._serving.refusal(refused)
        Responder(self, _REFUSED_REQUEST, self._serving).send(refused.kind.value, headers, body)

    def _linger(self) -> None:
        """Close this side after what was written, and wait for the client to close its own."""
        self._is_over = self._is_deaf = True
        self._held = b""
        self._ahead.clear()
        self._resume()
        if not self._transport.is_closing():
            self._transport.write_eof()
        self._set_deadline()

    def _close(self) -> None:
        """Close after what was written. There is no request that this could cut."""
        self._is_over = self._is_deaf = True
        self._set_deadline()
        self._transport.close()

    def _leave(self) -> None:
        """Tell the handler that its client has left."""
        self._ahead.clear()
        self.pressure.follow(None)
        responder, self._responder = self._responder, None
        if responder is not None:
            responder.gone = True
            if not responder.finished:
                self._serving.cancel(responder)

    def _wait_for_reader(self, unread_bytes: int) -> None:
        """Wait for the client to take some of the *unread_bytes* of its answers."""
        self._unread_bytes = unread_bytes
        self.deadline = self._serving.clock() + self._limits.write_seconds

    def _set_deadline(self) -> None:
        """Set the limit of what is waited for now, unless the client must read first."""
        if self.pressure.is_full:
            return
        limits = self._limits
        if self._is_over:
            self._unread_bytes = math.inf
            seconds = limits.body_seconds if self._skips_body else limits.linger_seconds
        elif self._responder is not None:
            seconds = math.inf
        elif self._reader.phase is _IDLE:
            seconds = limits.idle_seconds
        elif self._reader.phase is _BODY:
            seconds = limits.body_seconds
        else:
            seconds = limits.header_seconds
        self.deadline = self._serving.clock() + seconds
