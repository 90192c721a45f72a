"""Who a worker is, and which of its lives this is."""

import enum
import re
import secrets
import time
from typing import NewType

WorkerId = NewType("WorkerId", str)
"""Stable over restarts: the same worker in a new incarnation keeps it."""

Incarnation = NewType("Incarnation", str)
"""One life of a worker. Later ones compare greater, so a reader can tell which fences which."""

_FORM = re.compile("([0-9a-f]{12})-[0-9a-f]{8}")


class Role(enum.StrEnum):
    """What a worker is used for."""

    PREFILL = "prefill"
    DECODE = "decode"
    BOTH = "both"

    @property
    def prefills(self) -> bool:
        return self is not Role.DECODE

    @property
    def decodes(self) -> bool:
        return self is not Role.PREFILL


def new_incarnation(after: Incarnation | None = None) -> Incarnation:
    """Begin a life: milliseconds since 1970, then 32 random bits.

    It is greater than *after*, also where the clock has gone back since that began, or is another
    machine's. What is no incarnation of this making counts as None.
    """
    began = time.time_ns() // 1_000_000
    if after is not None and (earlier := _FORM.match(after)) is not None:
        began = max(began, int(earlier[1], 16) + 1)
    return Incarnation(f"{began:012x}-{secrets.token_hex(4)}")
