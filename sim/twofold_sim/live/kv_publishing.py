"""KV events over ZMQ, as vLLM's ``ZmqEventPublisher`` sends them
(vllm/distributed/kv_events.py, 0.32).

The frames are ``[topic, number, batch]``, the number in eight bytes; a batch is ``[seconds, events,
data parallel rank]`` in msgpack. What was sent can be asked for again at a second socket.
"""

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from twofold_router.gateway.listening import CannotListenError
from twofold_sim.engine_model import BlocksEvent
from twofold_sim.live.kv_encoding import Encoding, encode_cleared, encode_event
from twofold_sim.live.settings import LAST_PORT

HIGH_WATER_MARK = 100_000
"""Batches that wait for a subscriber; vLLM's default."""

_END = (-1).to_bytes(8, "big", signed=True)
_encode = msgspec.msgpack.Encoder().encode


class KvPublisher:
    """Numbers batches from 0 on, and keeps the last *buffer_count* of them for replays."""

    def __init__(
        self,
        context: zmq.asyncio.Context,
        endpoint: str,
        replay_endpoint: str,
        *,
        topic: str,
        encoding: Encoding,
        buffer_count: int,
    ) -> None:
        """Raises: CannotListenError: an endpoint is taken, or is none."""
        # A PUB drops what it cannot send: it is never waited for.
        self._pub: zmq.Socket[bytes] = zmq.Socket(context, zmq.PUB)
        self._pub.sndhwm = HIGH_WATER_MARK
        self._router = context.socket(zmq.ROUTER)
        try:
            self.endpoint = _bind(self._pub, endpoint)
            self.replay_endpoint = _bind(self._router, replay_endpoint)
        except CannotListenError:
            # The context waits at its end for each socket that is open.
            self.close()
            raise
        self._topic = topic.encode()
        self._encoding = encoding
        self._number = 0
        self._buffer: deque[tuple[int, bytes]] = deque(maxlen=buffer_count)
        self._pending: list[Any] = []

    def note(self, event: BlocksEvent) -> None:
        """Keep what has happened to the blocks for the next ``flush``."""
        self._pending.append(encode_event(event, self._encoding))

    def note_cleared(self) -> None:
        """Tell with the next ``flush`` that the cache is empty."""
        self._pending.append(encode_cleared(self._encoding))

    def flush(self) -> None:
        """Publish what was noted as one batch, if anything was."""
        if not self._pending:
            return
        payload = _encode([time.time(), self._pending, 0])
        self._pending = []
        number, self._number = self._number, self._number + 1
        self._buffer.append((number, payload))
        self._pub.send_multipart([self._topic, number.to_bytes(8, "big"), payload])

    async def serve_replays(self) -> None:
        """Answer who asks for batches again, until cancelled."""
        while True:
            frames = await self._router.recv_multipart()
            if len(frames) != 3 or len(frames[2]) != 8:
                continue
            client, _, first = frames
            for number, payload in list(self._buffer):
                if number >= int.from_bytes(first, "big"):
                    told = [client, b"", self._topic, number.to_bytes(8, "big"), payload]
                    await self._router.send_multipart(told)
            await self._router.send_multipart([client, b"", b"", _END, b""])

    def close(self) -> None:
        self._pub.close(linger=0)
        self._router.close(linger=0)


@contextlib.contextmanager
def zmq_context() -> Iterator[zmq.asyncio.Context]:
    """Open a context, and end its sockets with it."""
    context = zmq.asyncio.Context()
    try:
        yield context
    finally:
        context.destroy(linger=0)


def _bind(socket: "zmq.Socket[Any]", endpoint: str) -> str:
    """Bind *socket*, and return where it is; a port of 0 is one that is free.

    Raises:
        CannotListenError: the endpoint is taken, or is none.
    """
    head, _, port = endpoint.rpartition(":")
    socket.ipv6 = True  # as well as IPv4
    if endpoint.startswith("tcp:") and port.isdecimal() and int(port) > LAST_PORT:
        # ZMQ takes it modulo 65,536.
        raise CannotListenError(f"cannot publish KV events at {endpoint}: no port is so high")
    try:
        socket.bind(f"{head}:*" if port == "0" else endpoint)
    except zmq.ZMQError as error:
        raise CannotListenError(
            f"cannot publish KV events at {endpoint}: {error.strerror}"
        ) from error
    bound = socket.getsockopt_string(zmq.LAST_ENDPOINT)
    return f"{head}:{bound.rpartition(':')[2]}"
