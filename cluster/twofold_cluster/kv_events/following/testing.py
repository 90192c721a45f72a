"""vLLM's publisher of KV events without an engine, for tests."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import zmq
import zmq.asyncio

_END = (-1).to_bytes(8, "big", signed=True)


class Publisher:
    """Publishes batches as vLLM's ``ZmqEventPublisher`` does, and can fail to.

    It is an XPUB and no PUB, which tells it when a subscription has arrived.
    """

    def __init__(self, context: zmq.asyncio.Context, port: int, buffer_size: int) -> None:
        self._xpub = context.socket(zmq.XPUB)
        self._xpub.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._router = context.socket(zmq.ROUTER)
        self.endpoint = _bind(self._xpub, port)
        self.replay_endpoint = _bind(self._router, 0)
        self.replays = True
        """False: requests for a replay stay without an answer."""
        self.replay_drops: int | None = None
        """Number of a batch that the next replay loses on the way."""
        self.replay_ends_before: int | None = None
        """Number of the batch from which on the next replay loses all, its end too."""
        self.asked_for: list[int] = []
        self._buffer: deque[tuple[bytes, bytes]] = deque(maxlen=buffer_size)
        self._number = 0
        self._at = 0.0

    async def subscribed(self) -> None:
        """Wait for the next subscription."""
        assert (await self._xpub.recv())[0] == 1

    async def unsubscribed(self) -> None:
        """Wait for the next end of a subscription."""
        assert (await self._xpub.recv())[0] == 0

    async def publish(self, *events: Any, drop: bool = False) -> None:
        """Publish one batch; with *drop* nobody gets it, but it can be replayed."""
        self._at += 1.0
        await self.publish_payload(msgspec.msgpack.encode([self._at, events, 0]), drop=drop)

    async def publish_payload(self, payload: bytes, *, drop: bool = False) -> None:
        number = self._number.to_bytes(8, "big")
        self._number += 1
        self._buffer.append((number, payload))
        if not drop:
            await self._xpub.send_multipart([b"kv@worker@model", number, payload])

    async def send(self, *frames: bytes) -> None:
        """Send a message that is no batch."""
        await self._xpub.send_multipart(frames)

    def restart(self) -> None:
        """Begin anew, as an engine does whose address stays the same."""
        self._number = 0
        self._buffer.clear()

    async def serve_replays(self) -> None:
        """Answer requests until cancelled."""
        while True:
            client, _, first = await self._router.recv_multipart()
            self.asked_for.append(int.from_bytes(first, "big"))
            if not self.replays:
                continue
            dropped, self.replay_drops = self.replay_drops, None
            end, self.replay_ends_before = self.replay_ends_before, None
            for name, payload in list(self._buffer):
                number = int.from_bytes(name, "big")
                if name >= first and number != dropped and (end is None or number < end):
                    await self._router.send_multipart([client, b"", b"topic", name, payload])
            if end is None:
                await self._router.send_multipart([client, b"", b"", _END, b""])


@contextlib.asynccontextmanager
async def publisher(port: int = 0, buffer_size: int = 10_000) -> AsyncIterator[Publisher]:
    """Run a publisher on loopback, at *port* or one that is free."""
    context = zmq.asyncio.Context()
    try:
        publisher = Publisher(context, port, buffer_size)
        async with asyncio.TaskGroup() as tasks:
            serving = tasks.create_task(publisher.serve_replays())
            try:
                yield publisher
            finally:
                serving.cancel()
    finally:
        context.destroy(linger=0)


def _bind(socket: zmq.asyncio.Socket, port: int) -> str:
    socket.bind(f"tcp://127.0.0.1:{port or '*'}")
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)
