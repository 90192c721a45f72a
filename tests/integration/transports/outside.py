"""Requests for what lies outside of the blocks of two ``ends``."""

from typing import Any

from twofold_kvtransfer.transports.sockets.wire import Direction, Request

OUTSIDE: list[tuple[dict[str, Any], tuple[int, ...]]] = [
    ({}, (8,)),
    ({"part_offset": 1}, (0,)),
    ({"part_offset": 2**63}, (0,)),
    ({"part_bytes": 0}, (0,)),
    ({"first": 1, "count": 2}, (0,)),
    ({"count": 0}, (0,)),
    ({"first": 2**63}, (0,)),
]
"""What to change of a request that is sound, and for which blocks to send it."""


def sound(direction: Direction) -> Request:
    return Request(direction, True, 10, 1, part_offset=0, part_bytes=20_000, first=0, count=2)
