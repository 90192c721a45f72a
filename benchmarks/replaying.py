"""Send replayed requests at their moments, whatever becomes of those before."""

import asyncio
import math
import time
from collections.abc import Sequence

import msgspec

from benchmarks.connection import Exchange
from benchmarks.connections import Connections
from benchmarks.load import OK
from benchmarks.replayed import ReplayedRequest

NOT_ANSWERED = "not answered"


class Replied(msgspec.Struct, frozen=True):
    """What became of one request."""

    at: float
    """When it was to be sent, in seconds from the start."""
    sent_late: float
    """Seconds after that."""
    prompt_tokens: int
    ttft: float
    """Seconds from when it was sent to the first byte of the answer's body, which an engine sends
    with the first token; infinite if none came."""
    outcome: str


class Replay:
    """One replay, used once."""

    def __init__(self, port: int, requests: Sequence[ReplayedRequest]) -> None:
        self._requests = requests
        self._connections = Connections([port])
        self._replies: list[Replied] = []

    async def run(self, patience_seconds: float) -> list[Replied]:
        """Send all requests, and give up those that are not answered when the last was sent
        *patience_seconds* ago. Returns the replies in the order of the arrivals."""
        began_at = time.perf_counter()
        tasks = []
        for request in self._requests:
            await asyncio.sleep(began_at + request.at - time.perf_counter())
            tasks.append(asyncio.create_task(self._send(request, began_at)))
        _, waiting = await asyncio.wait(tasks, timeout=patience_seconds)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._connections.close()
        return sorted(self._replies, key=lambda reply: reply.at)

    async def _send(self, request: ReplayedRequest, began_at: float) -> None:
        sent_at = time.perf_counter()
        exchange = Exchange(is_stream=True)
        outcome = NOT_ANSWERED
        try:
            await self._connections.send([request.head, *request.body], exchange)
            outcome = exchange.outcome
        except OSError:
            outcome = "no connection"
        finally:
            ttft = math.inf
            if exchange.first_byte_at is not None and outcome in (OK, NOT_ANSWERED):
                ttft = exchange.first_byte_at - sent_at
            late = sent_at - began_at - request.at
            self._replies.append(Replied(request.at, late, request.prompt_tokens, ttft, outcome))
