"""The answer to one request, written to its connection as HTTP frames it."""

from http import HTTPStatus
from typing import Protocol

from twofold_router.http.backpressure import Backpressure, Source
from twofold_router.http.errors import ClientGoneError
from twofold_router.http.headers import HeaderPairs, header_lines
from twofold_router.http.request import Request

_JOINED_BYTES = 64 * 1024
"""Up to here one write of head and body together costs less than two."""

_STATUS_LINES = {
    int(status): b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode()) for status in HTTPStatus
}
_CLOSE = b"connection: close\r\n"
_CHUNKED = b"transfer-encoding: chunked\r\n"
_LAST_CHUNK = b"0\r\n\r\n"


class Terms(Protocol):
    """What holds for all answers of a server: the Date of now, and whether each is its
    connection's last."""

    date_line: bytes
    is_draining: bool


class Exit(Protocol):
    """The connection as an answer sees it."""

    pressure: Backpressure

    def write(self, data: bytes, /) -> None: ...

    def answered(self, *, closes: bool) -> None:
        """Go on with the next request, or close."""
        ...

    def abort(self) -> None: ...


class Responder:
    """Answers one request: ``send`` once, or ``start``, ``write`` any number, ``finish``.

    Header fields are given without Date, Connection, Content-Length and Transfer-Encoding. What is
    written before ``finish`` to a client that speaks HTTP/1.0 ends with the connection.

    ``started``: the status can no longer be changed. ``finished``: nothing more can be written.
    ``gone``: the client has left. To be read only. Then ``write`` does nothing, ``abort`` neither,
    and the others raise ClientGoneError.
    """

    __slots__ = (
        "_closes",
        "_exit",
        "_has_body",
        "_is_chunked",
        "_terms",
        "_write",
        "finished",
        "gone",
        "started",
    )

    def __init__(self, exit_: Exit, request: Request, terms: Terms) -> None:
        self.started = False
        self.finished = False
        self.gone = False
        self._exit = exit_
        self._write = exit_.write
        self._terms = terms
        self._is_chunked = not request.is_http_1_0
        self._has_body = request.method != "HEAD"
        self._closes = not request.keep_alive

    def send(self, status: int, headers: HeaderPairs, body: bytes) -> None:
        """Answer in one piece."""
        framing = b"" if status in (204, 304) else b"content-length: %d\r\n" % len(body)
        head = self._start(status, headers, framing)
        write = self._write
        if not self._has_body:
            write(head)
        elif len(body) <= _JOINED_BYTES:
            write(head + body)
        else:
            write(head)
            write(body)
        self._end()

    def start(self, status: int, headers: HeaderPairs) -> None:
        """Begin an answer whose length is not known."""
        is_framed = self._is_chunked and status not in (204, 304)
        self._write(self._start(status, headers, _CHUNKED if is_framed else b""))

    def write(self, chunk: bytes) -> None:
        """Send *chunk* as soon as the connection takes it. ``drain`` waits for that."""
        assert self.started, "an answer starts with its status"
        if self.finished or self.gone or not chunk or not self._has_body:
            return
        # A slot is read faster than it is called as a method.
        write = self._write
        write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._is_chunked else chunk)

    def finish(self) -> None:
        """End an answer that was started."""
        assert self.started, "an answer starts with its status"
        if self.finished:
            return
        self._require_client()
        if self._is_chunked and self._has_body:
            self._write(_LAST_CHUNK)
        self._end()

    def abort(self) -> None:
        """Close the connection at once, so that the client sees that the answer is not whole."""
        if not self.gone and not self.finished:
            self.finished = True
            self._exit.abort()

    async def drain(self) -> None:
        """Wait until the client has read most of what was written."""
        self._require_client()
        await self._exit.pressure.drain()
        self._require_client()

    async def taken(self) -> None:
        """Wait until the client has read most of an answer that is finished.

        Raises:
            ClientGoneError: its connection has ended before that.
        """
        pressure = self._exit.pressure
        await pressure.drain()
        if pressure.was_cut:
            self.gone = True
        self._require_client()

    def follow(self, source: Source | None) -> None:
        """Pause *source* while the client does not read; None ends that."""
        if not self.gone and not self.finished:
            self._exit.pressure.follow(source)

    def _start(self, status: int, headers: HeaderPairs, framing: bytes) -> bytes:
        assert not self.started, "a request has one answer"
        self._require_client()
        lines = header_lines(headers)
        self.started = True
        if status in (204, 304):
            self._has_body = False
        terms = self._terms
        self._closes = closes = self._closes or terms.is_draining
        start_line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        close = _CLOSE if closes else b""
        return b"%b%b%b%b%b\r\n" % (start_line, terms.date_line, lines, framing, close)

    def _end(self) -> None:
        self.finished = True
        self._exit.answered(closes=self._closes)

    def _require_client(self) -> None:
        if self.gone:
            raise ClientGoneError("the client has closed its connection")
