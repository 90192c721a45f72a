"""What stands before the engine's HTTP API: counting, refusing, draining."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

from twofold_cluster.apis import Api
from twofold_cluster.errors import Fault, RequestError
from twofold_cluster.legs import FOLLOWS_HEADER
from twofold_engine.roles import InFlight

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_GENERATING_PATHS = frozenset([*Api, "/inference/v1/generate", "/v1/chat/completions/batch"])


class Gate:
    """Lets requests through to *app*, as long as ``admit`` names no fault.

    Invariant: every admitted request is in ``in_flight`` from its admission until its answer has
    ended or its client has left, and unprefilled until the first byte of its answer's body. But not
    those that only follow: they wait in the engine for nothing but blocks of a prompt whose own
    request is still to come, which they must not keep out. ``admit`` bounds them by themselves.
    """

    def __init__(
        self,
        app: AsgiApp,
        admit: Callable[[InFlight], Fault | None],
        on_change: Callable[[], None],
    ) -> None:
        self._app = app
        self._admit = admit
        self._on_change = on_change
        self._requests = 0
        self._unprefilled = 0
        self._followers = 0
        self._closed = False

    @property
    def in_flight(self) -> InFlight:
        return InFlight(self._requests, self._unprefilled)

    def close(self) -> None:
        """Refuse all new requests from now on."""
        self._closed = True

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in _GENERATING_PATHS:
            await self._app(scope, receive, send)
            return
        follows = any(name == FOLLOWS_HEADER for name, _ in scope.get("headers", ()))
        beside = InFlight(self._followers, self._followers) if follows else self.in_flight
        fault = Fault.DRAINING if self._closed else self._admit(beside)
        if fault is not None:
            await _refuse(fault, send)
        elif follows:
            await self._pass_follower(scope, receive, send)
        else:
            with self._counted() as first_byte:
                await self._app(scope, receive, _noticing(send, first_byte))

    async def _pass_follower(
        self, scope: MutableMapping[str, Any], receive: Receive, send: Send
    ) -> None:
        self._followers += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._followers -= 1

    @contextlib.contextmanager
    def _counted(self) -> Iterator[Callable[[], None]]:
        prefilled = False

        def first_byte() -> None:
            nonlocal prefilled
            if not prefilled:
                prefilled = True
                self._unprefilled -= 1
                self._on_change()

        self._requests += 1
        self._unprefilled += 1
        self._on_change()
        try:
            yield first_byte
        finally:
            first_byte()
            self._requests -= 1
            self._on_change()


def _noticing(send: Send, first_byte: Callable[[], None]) -> Send:
    async def noticing_send(message: Message) -> None:
        if message["type"] == "http.response.body" and message.get("body"):
            first_byte()
        await send(message)

    return noticing_send


async def _refuse(fault: Fault, send: Send) -> None:
    error = RequestError(fault, f"this worker refuses new requests: {fault.code}")
    headers = [
        (b"content-type", b"application/json"),
        (b"retry-after", b"1"),
        (b"x-llm-d-request-dropped-reason", fault.code.replace("_", "-").encode()),
    ]
    await send({"type": "http.response.start", "status": fault.status, "headers": headers})
    await send({"type": "http.response.body", "body": error.body()})
