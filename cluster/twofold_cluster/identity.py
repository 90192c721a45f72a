"""Who a worker is, and which of its lives this is."""

import enum
import secrets
import time
from typing import NewType

WorkerId = NewType("WorkerId", str)
"""Stable over restarts: the same worker in a new incarnation keeps it."""

Incarnation = NewType("Incarnation", str)
"""One life of a worker. Later ones compare greater, so a reader can tell which fences which."""


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


def new_incarnation() -> Incarnation:
    """Begin a life: milliseconds since 1970, then 32 random bits.

    Comparing two of one worker needs no shared clock as long as the pool manager, which starts
    an incarnation only after the one before is gone, is on one machine at a time.
    """
    return Incarnation(f"{time.time_ns() // 1_000_000:012x}-{secrets.token_hex(4)}")
