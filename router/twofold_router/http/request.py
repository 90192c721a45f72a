"""A request, and what must be true of its head beyond what the parser checks."""

import re
from dataclasses import dataclass
from typing import NamedTuple

from twofold_router.http.headers import Headers
from twofold_router.http.refusals import Refusal, RefusedError

# The parser knows forty more, of WebDAV, RTSP and the like. CONNECT is not ours to serve.
_METHODS = {
    method.encode(): method
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
}

# RFC 3986 section 3.2: a host and a port, with the brackets of an IPv6 address. No user.
_AUTHORITY = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+,;=%-]+|\[[0-9A-Fa-f:.]+\])?(?::[0-9]*)?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)(.*)")

SINGLE_FIELDS = frozenset(
    {
        b"authorization",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"transfer-encoding",
    }
)
"""Those of which two would be read as one thing here and as another elsewhere."""


@dataclass(slots=True)
class Request:
    """One request, its body included.

    ``path`` and ``query`` are as they came, not decoded; ``headers`` by names in lower case.
    """

    method: str
    path: str
    query: str
    headers: Headers
    keep_alive: bool
    is_http_1_0: bool
    body: bytes = b""


class Start(NamedTuple):
    """What the start line says."""

    method: str
    path: str
    query: str
    is_http_1_0: bool


def parse_start(method: bytes, target: bytes, version: str, host: bytes | None) -> Start:
    """Read the start line of a request whose syntax a parser has accepted.

    Raises:
        RefusedError: it is none that we serve, or one that others may read otherwise.
    """
    if version not in ("1.1", "1.0"):
        raise RefusedError(Refusal.VERSION_NOT_SUPPORTED, f"HTTP/{version} is not spoken here")
    method_name = _METHODS.get(method)
    if method_name is None:
        raise RefusedError(Refusal.NOT_IMPLEMENTED, "the method is not implemented")
    if host is None and version == "1.1":
        raise RefusedError(Refusal.BAD_REQUEST, "Host is missing")
    if host and _AUTHORITY.fullmatch(host) is None:
        raise RefusedError(Refusal.BAD_REQUEST, "Host is no host")
    if not target.startswith(b"/"):
        target = _origin_form(method_name, target, host)
    if b"#" in target:
        raise RefusedError(Refusal.BAD_REQUEST, "the target has a fragment")
    path, _, query = target.decode("ascii").partition("?")
    return Start(method_name, path, query, version == "1.0")


def require_chunked(transfer_encoding: bytes, *, is_http_1_0: bool) -> None:
    """Refuse all transfer codings but the one that every server has.

    Raises:
        RefusedError: it is another, or a list, or HTTP/1.0.
    """
    if is_http_1_0:
        raise RefusedError(Refusal.BAD_REQUEST, "HTTP/1.0 has no Transfer-Encoding")
    if transfer_encoding.lower() != b"chunked":
        message = "no transfer coding but chunked is implemented"
        raise RefusedError(Refusal.NOT_IMPLEMENTED, message)


def _origin_form(method: str, target: bytes, host: bytes | None) -> bytes:
    """Return the path and query of a *target* that is not a path (RFC 9112 section 3.2)."""
    if target == b"*" and method == "OPTIONS":
        return target
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise RefusedError(Refusal.BAD_REQUEST, "the target is no path")
    authority, rest = absolute.groups()
    if host is not None and authority.lower() != host.lower():
        raise RefusedError(Refusal.BAD_REQUEST, "Host is not the target's")
    return rest if rest.startswith(b"/") else b"/" + rest
