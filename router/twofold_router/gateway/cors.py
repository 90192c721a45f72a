"""Which web pages may ask from a browser: the CORS protocol of the Fetch standard.

Keys travel in header fields and never in cookies, so no answer allows credentials; without them
``*`` stands for every field that a page may read.
"""

from collections.abc import Collection, Mapping

from twofold_router.access import ANY_ORIGIN
from twofold_router.gateway.reply import WholeAnswer
from twofold_router.http import HeaderPairs, RefusalAnswer, RefusedError, Request

PREFLIGHT_SECONDS = 7200
"""For which a browser need not ask again; Chromium heeds no more."""

_VARIES = (b"vary", b"origin")


class Cors:
    """Says on each answer whether the page that asked may read it."""

    def __init__(self, origins: Collection[str]) -> None:
        self._any = ANY_ORIGIN in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, asked: Mapping[bytes, bytes]) -> HeaderPairs:
        """Return what the answer to a request with the fields *asked* carries."""
        if self._any:
            return _allow(b"*")
        origin = asked.get(b"origin")
        if origin is None or origin not in self._origins:
            return [_VARIES]
        return [*_allow(origin), _VARIES]

    def preflight(self, request: Request) -> WholeAnswer | None:
        """Answer a browser that asks whether a page may ask *request*; None if it is no such
        question, or the page is none of those."""
        asked = request.headers
        if request.method != "OPTIONS" or b"access-control-request-method" not in asked:
            return None
        if not self._any and asked.get(b"origin") not in self._origins:
            return None
        headers = [
            (b"access-control-allow-methods", b"GET, POST"),
            # "*" would not stand for Authorization.
            (b"access-control-allow-headers", asked.get(b"access-control-request-headers", b"")),
            (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
        ]
        return WholeAnswer(204, headers, b"")

    def on(self, refusal: RefusalAnswer) -> RefusalAnswer:
        """Return *refusal* with what all answers carry."""

        def refuse(refused: RefusedError) -> tuple[HeaderPairs, bytes]:
            headers, body = refusal(refused)
            return [*headers, *self.headers(refused.headers)], body

        return refuse


def _allow(origin: bytes) -> HeaderPairs:
    return ((b"access-control-allow-origin", origin), (b"access-control-expose-headers", b"*"))
