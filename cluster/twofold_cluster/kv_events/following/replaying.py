"""What a publisher still has of its batches.

The protocol is ``_service_replay``'s in vllm/distributed/kv_events.py.
"""

import asyncio
from collections.abc import AsyncGenerator

import zmq
import zmq.asyncio

from twofold_cluster.kv_events.following.sockets import bound_memory

SILENCE_SECONDS = 1.0
"""vLLM looks for such a request ten times a second."""

MAX_BUFFERED_BATCHES = 10_000
"""As many as vLLM keeps, unless it is told otherwise. It sends them all at once."""

_END = (-1).to_bytes(8, "big", signed=True)


async def replayed(
    context: zmq.asyncio.Context, endpoint: str, first: int
) -> AsyncGenerator[tuple[int, bytes]]:
    """Ask for the batches from number *first* on, and yield each with its number.

    Some may be dropped on the way, when they come faster than they are read; so may the end.

    Raises:
        TimeoutError: nothing came for a while, and neither did the end.
    """
    with context.socket(zmq.DEALER) as dealer:
        bound_memory(dealer, MAX_BUFFERED_BATCHES)
        dealer.connect(endpoint)
        # A ROUTER answers as to a REQ socket, which begins with an empty frame.
        await dealer.send_multipart([b"", first.to_bytes(8, "big")])
        while True:
            async with asyncio.timeout(SILENCE_SECONDS):
                frames = await dealer.recv_multipart()
            *_, number, payload = [b"", b"", *frames]
            if number == _END:
                return
            yield int.from_bytes(number[:8], "big"), payload
