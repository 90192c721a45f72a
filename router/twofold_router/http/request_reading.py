"""Cuts the bytes of a connection into requests. No I/O: bytes in, requests out.

llhttp, as httptools builds it, is strict by default: tried in version 0.9, it refuses both framings
at once, two lengths, folded fields, bare line ends, spaces around names and sizes, control bytes.
What it lets pass is refused in ``request``.
"""

import enum
from collections.abc import Callable
from typing import NoReturn

import httptools

from twofold_router.http.headers import Headers, header_lines, tokens
from twofold_router.http.limits import ServerLimits
from twofold_router.http.refusals import Refusal, RefusedError
from twofold_router.http.request import SINGLE_FIELDS, Request, Start, parse_start, require_chunked

SLICE_BYTES = 8 * 1024
"""Fed at once, unless it is the rest of one body: bounds what is parsed past any limit."""

PIECE_COUNT = 64
"""Pieces of a body before they are joined: small ones cost many times their bytes."""


class Phase(enum.Enum):
    """Where in a request the bytes so far end."""

    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()


_IDLE, _HEAD, _BODY = Phase


class RequestReader:
    """The parser of one connection. After a RefusedError it is not fed any more.

    ``request``: the one whose body has not come whole; ``is_body_wanted``: somebody has said so.
    ``body_bytes``: what has come of that body.
    ``expects_continue``: the client waits for 100 before it sends its body.
    ``is_closed``: the last request was the connection's last; what follows is ignored.
    """

    __slots__ = (
        "_content_length",
        "_fed_bytes",
        "_framing_bytes",
        "_headers",
        "_is_upgrade",
        "_joined",
        "_known",
        "_limits",
        "_on_request",
        "_parse",
        "_parser",
        "_pieces",
        "_refused",
        "_repeated_count",
        "_start",
        "_target",
        "body_bytes",
        "expects_continue",
        "is_body_wanted",
        "is_closed",
        "on_body",
        "phase",
        "request",
    )

    def __init__(self, limits: ServerLimits, on_request: Callable[[Request], None]) -> None:
        self.phase = _IDLE
        self.expects_continue = False
        self.is_closed = False
        self.request: Request | None = None
        self.is_body_wanted = False
        self._limits = limits
        self._on_request = on_request
        self._pieces: list[bytes] = []
        # Called by the parser without a frame of ours between.
        self.on_body = self._pieces.append
        self._refused: RefusedError | None = None
        self._known: tuple[bytes, bytes, bytes | None] | None = None
        self._start = Start("", "", "", is_http_1_0=False)
        self._is_upgrade = False
        self.body_bytes = 0
        self._content_length = 0
        self._fed_bytes = 0
        self._joined = bytearray()
        self._headers: Headers = {}
        self._begin()
        self._open_parser()

    def stride(self) -> int:
        """Return how many bytes may be fed at once."""
        return max(SLICE_BYTES, self._content_length - self.body_bytes)

    def feed(self, data: bytes) -> None:
        """Take what came in, at most ``stride`` bytes, and give on the requests that it completes.

        Raises:
            RefusedError: what came is no request that we serve; those before it were given on.
        """
        self._fed_bytes = len(data)
        # A slot is read faster than it is called as a method.
        parse = self._parse
        try:
            parse(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._read_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if not self.is_closed:
                self._raise(error)
        if self.phase is not _IDLE:
            self._bound()
        return None

    def so_far(self) -> tuple[str, Headers]:
        """Return the path and the fields of the request that is being read, as far as they have
        come."""
        if self.request is not None:
            return self.request.path, self.request.headers
        return self._target.partition(b"?")[0].decode("latin-1"), self._headers

    def drop_body(self) -> None:
        """Let go of what has come of a body. Nothing more is fed after that."""
        self._pieces.clear()
        self._joined.clear()

    def close(self) -> None:
        """Read nothing more. The parser holds this object, and what it calls may: without this
        they would wait for the garbage collector."""
        del self._parser, self._parse, self._on_request

    def on_message_begin(self) -> None:
        self.phase = _HEAD
        # What of this slice came before does not count.
        self._framing_bytes = -self._fed_bytes

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        headers = self._headers
        if name in headers:
            self._repeat(name, value)
        else:
            headers[name] = value.rstrip()

    def on_headers_complete(self) -> None:
        parser = self._parser
        headers = self._headers
        self._bound_fields()
        method = parser.get_method()
        if parser.should_upgrade() and method != b"CONNECT":
            self._is_upgrade = True
            return
        keep_alive = parser.should_keep_alive()
        # Without a Connection field it is only 1.1 that is kept, and asking costs.
        is_1_1 = keep_alive and b"connection" not in headers
        known = method, self._target, headers.get(b"host")
        try:
            if not is_1_1 or known != self._known:
                version = "1.1" if is_1_1 else parser.get_http_version()
                self._start = parse_start(method, self._target, version, known[2])
                self._known = known if is_1_1 else None
            method_name, path, query, is_http_1_0 = self._start
            if b"transfer-encoding" in headers:
                require_chunked(headers[b"transfer-encoding"], is_http_1_0=is_http_1_0)
            if b"content-length" in headers or b"expect" in headers:
                self._check_body(headers)
        except RefusedError as refused:
            self._refused = refused
            raise
        # HTTP/1.0 is never kept: it has no chunks, and its keep-alive was an extension.
        keep_alive = keep_alive and not is_http_1_0
        self.request = Request(method_name, path, query, headers, keep_alive, is_http_1_0)
        self.is_body_wanted = False
        self.phase = _BODY
        # Trailers are collected apart, and dropped.
        self._begin()

    def on_message_complete(self) -> None:
        if self._is_upgrade:
            return
        request = self.request
        assert request is not None
        if self._pieces:
            request.body = self._whole_body()
        if self._headers:
            self._bound_fields()
            self._begin()
        self.phase = _IDLE
        self._content_length = 0
        self.expects_continue = False
        self.is_closed = not request.keep_alive
        self.request = None
        on_request = self._on_request
        on_request(request)

    def _open_parser(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._parse = self._parser.feed_data

    def _begin(self) -> None:
        self._target = b""
        self._headers = {}
        self._repeated_count = 0
        self._framing_bytes = -self._fed_bytes

    def _repeat(self, name: bytes, value: bytes) -> None:
        if name in SINGLE_FIELDS:
            self._refuse(Refusal.BAD_REQUEST, f"{name.decode()} is given twice")
        self._repeated_count += 1
        self._headers[name] += b", " + value.rstrip()

    def _check_body(self, headers: Headers) -> None:
        """Refuse a body before it comes, and note what is known of it."""
        self._content_length = int(headers.get(b"content-length", b"0"))
        limit_bytes = self._limits.body_bytes
        if self._content_length > limit_bytes:
            self._refuse(Refusal.BODY_TOO_LARGE, f"the body is larger than {limit_bytes} bytes")
        expectation = headers.get(b"expect")
        if expectation is not None:
            if expectation.lower() != b"100-continue":
                self._refuse(Refusal.EXPECTATION_FAILED, "Expect must be 100-continue")
            # HTTP/1.0 does not know the answer.
            self.expects_continue = not self._start.is_http_1_0

    def _bound_fields(self) -> None:
        limits = self._limits
        if len(self._headers) + self._repeated_count > limits.header_count:
            message = f"there are more than {limits.header_count} header fields"
            self._refuse(Refusal.HEADER_TOO_LARGE, message)
        # At most so much has come of them; to count exactly is seldom needed.
        if self._framing_bytes + self._fed_bytes + SLICE_BYTES > limits.header_bytes:
            headers = self._headers
            fields_bytes = sum(len(name) + len(headers[name]) + 4 for name in headers)
            if fields_bytes + len(self._target) > limits.header_bytes:
                self._refuse_large_header()

    def _bound(self) -> None:
        """Bound a request that is not complete after what was fed.

        Of what is no body, no more than a header's limit may come in a row: so much of an unended
        field does the parser hold, and so long may a chunk's extension be.
        """
        pieces = self._pieces
        body_bytes = len(self._joined) + sum(map(len, pieces))
        if self.phase is _HEAD or body_bytes == self.body_bytes:
            self._framing_bytes += self._fed_bytes
            if self._framing_bytes > self._limits.header_bytes:
                self._refuse_large_header()
            return
        self.body_bytes = body_bytes
        self._framing_bytes = 0
        if body_bytes > self._limits.body_bytes:
            self._refuse_large_body()
        if len(pieces) > PIECE_COUNT:
            self._joined += b"".join(pieces)
            pieces.clear()

    def _whole_body(self) -> bytes:
        pieces = self._pieces
        body = b"".join(pieces) if len(pieces) > 1 or self._joined else pieces[0]
        pieces.clear()
        if self._joined:
            body = bytes(self._joined + body)
            self._joined.clear()
        if len(body) > self._limits.body_bytes:
            self._refuse_large_body()
        return body

    def _read_on_without_upgrade(self, rest: bytes) -> None:
        """Read a request as if it had not asked for another protocol, which RFC 9110 section 7.8
        lets a server do. The parser skips the body then; some clients ask for h2c with it."""
        version = self._parser.get_http_version()
        method, target, headers = self._parser.get_method(), self._target, self._headers
        headers.pop(b"upgrade", None)
        kept = tokens(headers.pop(b"connection", b"")) & {b"close", b"keep-alive"}
        if kept:
            headers[b"connection"] = b", ".join(kept)
        self._begin()
        self._is_upgrade = False
        self._open_parser()
        start_line = b"%b %b HTTP/%b\r\n" % (method, target, version.encode())
        self.feed(start_line + header_lines(list(headers.items())) + b"\r\n" + rest)

    def _raise(self, error: httptools.HttpParserError) -> NoReturn:
        if self._refused is not None:
            raise self._refused from None
        if isinstance(error, httptools.HttpParserCallbackError):
            # A bug of ours, not the client's.
            raise error
        message = f"the request cannot be read: {error}"
        raise RefusedError(Refusal.BAD_REQUEST, message) from error

    def _refuse(self, kind: Refusal, message: str) -> NoReturn:
        self._refused = RefusedError(kind, message)
        raise self._refused

    def _refuse_large_header(self) -> NoReturn:
        message = f"the header is larger than {self._limits.header_bytes} bytes"
        self._refuse(Refusal.HEADER_TOO_LARGE, message)

    def _refuse_large_body(self) -> NoReturn:
        message = f"the body is larger than {self._limits.body_bytes} bytes"
        self._refuse(Refusal.BODY_TOO_LARGE, message)
