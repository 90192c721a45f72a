"""Header fields: which of them are for the next hop only, and how they are written."""

from collections.abc import Mapping, Sequence

Headers = dict[bytes, bytes]
"""By name in lower case; repeated fields are joined by a comma."""

HeaderPairs = Sequence[tuple[bytes, bytes]]

# RFC 9110 section 7.6.1, and what this layer writes itself on either side.
_OF_ONE_HOP = frozenset(
    {
        b"connection",
        b"content-length",
        b"date",
        b"expect",
        b"host",
        b"http2-settings",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)


def end_to_end(headers: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Return those of *headers* that the next hop may see.

    Left out are the fields of one hop, those that Connection names, ``proxy-*``, and what this
    layer writes itself: Host, Date, Content-Length.
    """
    named = tokens(headers.get(b"connection", b""))
    return [
        (name, value)
        for name, value in headers.items()
        if name not in _OF_ONE_HOP and name not in named and not name.startswith(b"proxy-")
    ]


def tokens(value: bytes) -> frozenset[bytes]:
    """Return the comma-separated words of a field's *value*, in lower case."""
    return frozenset(word.strip(b" \t").lower() for word in value.split(b","))


def header_lines(headers: HeaderPairs) -> bytes:
    """Write *headers* as lines.

    Raises:
        ValueError: one holds a line break or a NUL, and would be read as something else.
    """
    parts: list[bytes] = []
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    lines = b"".join(parts)
    if len(lines.splitlines()) != len(headers) or 0 in lines:
        raise ValueError("a header field holds a line break or a NUL")
    return lines
