"""Cuts the bytes of a connection to a worker into answers. No I/O: bytes in, bodies out."""

import httptools

from twofold_router.http.errors import BrokenError
from twofold_router.http.headers import Headers
from twofold_router.http.limits import ClientLimits


class ResponseReader:
    """The parser of one connection, for one answer at a time, each announced by ``begin``.

    ``has_head``: status and headers of the final answer are known. ``pieces``: what of the body has
    come and was not taken; the taker clears it, and never replaces it. ``is_complete``: the answer
    has come to its end. ``keeps``: another may follow on the same connection.
    """

    __slots__ = (
        "_ends_with_connection",
        "_framing_bytes",
        "_has_no_body",
        "_is_interim",
        "_limit_bytes",
        "_parse",
        "_parser",
        "has_head",
        "headers",
        "is_complete",
        "keeps",
        "on_body",
        "pieces",
        "status",
    )

    def __init__(self, limits: ClientLimits) -> None:
        self.pieces: list[bytes] = []
        # Called by the parser without a frame of ours between.
        self.on_body = self.pieces.append
        self._limit_bytes = limits.header_bytes
        self.begin(is_head=False)
        self._parser = httptools.HttpResponseParser(self)
        self._parse = self._parser.feed_data

    def begin(self, *, is_head: bool) -> None:
        """Expect an answer, without a body if it is one to HEAD."""
        self.has_head = False
        self.is_complete = False
        self.keeps = False
        self.status = 0
        self.headers: Headers = {}
        self._framing_bytes = 0
        self._is_interim = False
        self._ends_with_connection = False
        self._has_no_body = is_head

    def feed(self, data: bytes) -> None:
        """Take what came in. What follows a complete answer only forbids to keep the connection.

        Raises:
            BrokenError: it is no answer, or one that others may read otherwise.
        """
        # A slot is read faster than it is called as a method.
        parse = self._parse
        try:
            parse(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.keeps = False
            if not self.is_complete:
                raise _broken_by(error) from error
        if self.pieces:
            self._framing_bytes = 0
            if self._has_no_body:
                self.pieces.clear()
        elif not self.is_complete:
            # Of heads, chunk sizes and trailers, no more may come in a row than a head's limit.
            self._framing_bytes += len(data)
            if self._framing_bytes > self._limit_bytes:
                raise self._too_large()

    def end(self) -> None:
        """Take the end of the connection.

        Raises:
            BrokenError: the answer is not complete.
        """
        if not self.has_head:
            raise BrokenError("the connection ended before the answer")
        if not self.is_complete and not self._ends_with_connection:
            raise BrokenError("the connection ended within the answer")
        self.is_complete = True

    def close(self) -> None:
        """Read nothing more. The parser holds this object: without this both would wait for the
        garbage collector."""
        del self._parser, self._parse

    def on_message_begin(self) -> None:
        if self.is_complete:
            raise BrokenError("there is more than one answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.has_head:
            # A trailer.
            return
        name = name.lower()
        headers = self.headers
        value = value.rstrip()
        headers[name] = headers[name] + b", " + value if name in headers else value

    def on_headers_complete(self) -> None:
        parser = self._parser
        headers = self.headers
        self.status = status = parser.get_status_code()
        if status < 200:
            self._is_interim = True
            self.headers = {}
            return
        self.keeps = keeps = parser.should_keep_alive()
        # What is kept is HTTP/1.1, or 1.0 by consent; asking costs.
        if not keeps and parser.get_http_version() not in ("1.1", "1.0"):
            raise BrokenError("the answer is of an unknown version")
        if b"transfer-encoding" in headers:
            if headers[b"transfer-encoding"].lower() != b"chunked":
                raise BrokenError("the answer has an unknown transfer coding")
        elif b"content-length" not in headers:
            self._ends_with_connection = True
        self.has_head = True
        if self._has_no_body:
            # The parser does not know what was asked, and may wait for a body.
            self.is_complete = True
            self.keeps = False

    def on_message_complete(self) -> None:
        if self._is_interim:
            self._is_interim = False
        else:
            self.is_complete = True

    def _too_large(self) -> BrokenError:
        return BrokenError(f"the header of the answer is larger than {self._limit_bytes} bytes")


def _broken_by(error: Exception) -> BrokenError:
    if isinstance(error, httptools.HttpParserUpgrade):
        return BrokenError("the worker changes the protocol unasked")
    if isinstance(error.__context__, BrokenError):
        return error.__context__
    return BrokenError(f"the answer cannot be read: {error}")
