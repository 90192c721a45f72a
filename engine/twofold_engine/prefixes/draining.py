"""A worker is emptied: no new requests, no pins, and then nothing in flight and no lease."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from twofold_engine.prefixes.ranks import Ranks

MAX_DRAIN_SECONDS = 3600.0
"""A request that takes longer is watched by asking again."""

POLL_SECONDS = 0.1

Sleep = Callable[[float], Awaitable[None]]


class Leaving(Protocol):
    """The worker as it is announced, and its engine."""

    async def drain(self) -> None:
        """Let the routers know that this worker leaves, then refuse new requests."""

    def is_busy(self) -> bool:
        """Tell whether a request is here, or a block that somebody may still fetch."""

    @property
    def request_count(self) -> int:
        """How many requests are in flight."""


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of a worker's work. ``idle``: nothing, not even a block in the engine."""

    idle: bool
    in_flight_count: int
    lease_count: int


async def drain(
    leaving: Leaving,
    end_pins: Callable[[], Awaitable[None]],
    ranks: Ranks,
    limit_seconds: float,
    *,
    clock: Callable[[], float],
    sleep: Sleep = asyncio.sleep,
) -> Left:
    """Empty a worker, and return what is left of its work after *limit_seconds* at most; what the
    first step takes (it tells Redis) comes on top.

    Raises:
        NotAnsweredError: a rank of the engine does not answer.
    """
    give_up_at = clock() + limit_seconds
    await leaving.drain()
    await end_pins()
    while True:
        lease_count = await ranks.lease_count()
        busy = leaving.is_busy()
        left = Left(not busy and lease_count == 0, leaving.request_count, lease_count)
        remaining = give_up_at - clock()
        if left.idle or remaining <= 0:
            return left
        await sleep(min(POLL_SECONDS, remaining))
