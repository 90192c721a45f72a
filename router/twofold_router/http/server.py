"""The server: it accepts connections, and ends them in an orderly way."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from twofold_router.http.limits import ServerLimits
from twofold_router.http.refusals import RefusalAnswer
from twofold_router.http.server_connection import ServerConnection
from twofold_router.http.serving import Handler, Serving, WantsBody
from twofold_router.http.sweeping import Sweeping

_log = logging.getLogger(__name__)

LAST_WORDS_SECONDS = 1.0
"""For clients to be told that nothing more comes."""

CANCEL_SECONDS = 5.0
"""For handlers to end after they were cancelled."""


class Server:
    """A server that listens, until ``shutdown``."""

    def __init__(self, serving: Serving, listening: asyncio.Server) -> None:
        self._serving = serving
        self._listening = listening
        self._sweeping = Sweeping(serving.sweep)

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._serving.connections)

    async def shutdown(
        self, drain_seconds: float, give_up: Callable[[], None] = lambda: None
    ) -> None:
        """Stop accepting, close what is idle, and wait *drain_seconds* for the answers in flight;
        each is its connection's last. Then have the handlers *give up*, and cancel them."""
        serving = self._serving
        self._listening.close()
        serving.is_draining = True
        for connection in list(serving.connections):
            connection.begin_drain()
        try:
            async with asyncio.timeout(drain_seconds):
                await serving.emptied()
                await _ended(serving)
        except TimeoutError:
            _log.warning("giving up what was not drained", extra={"count": self.connections})
            give_up()
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_SECONDS):
                    await serving.emptied()
        finally:
            self._sweeping.stop()
            await self._cancel()

    async def _cancel(self) -> None:
        serving = self._serving
        for connection in list(serving.connections):
            connection.abort()
        for responder in list(serving.tasks):
            serving.cancel(responder)
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                await _ended(serving)
        except TimeoutError:
            _log.error("handlers do not end", extra={"count": len(serving.tasks)})


@asynccontextmanager
async def serve(
    listener: socket.socket,
    handler: Handler,
    limits: ServerLimits,
    refusal: RefusalAnswer,
    *,
    drain_seconds: float,
    give_up: Callable[[], None] = lambda: None,
    wants_body: WantsBody = lambda _request: True,
) -> AsyncIterator[Server]:
    """Serve *listener*, which is closed in the end, for the duration of the block; then drain.
    When *drain_seconds* are over, *give_up* is to have the handlers come to their ends.

    *handler* runs in one task per request, and is cancelled when the client leaves: when its
    connection is lost, or when it closes its side of it while its request is in progress. The
    requests of a connection are answered in order; the next handler starts when the answer before
    is complete. A handler that fails is logged and answered with 500, or by closing the connection
    if it had begun to answer. *refusal* makes the answers to what no handler sees. A request whose
    body takes more than one read, and is not what *wants_body*, is handled without it at once, and
    is its connection's last.
    """
    loop = asyncio.get_running_loop()
    serving = Serving(handler, limits, refusal, loop.time, wants_body)
    listening = await loop.create_server(
        lambda: ServerConnection(serving), sock=listener, backlog=limits.accept_backlog_count
    )
    server = Server(serving, listening)
    try:
        yield server
    finally:
        await server.shutdown(drain_seconds, give_up)


async def _ended(serving: Serving) -> None:
    if serving.tasks:
        await asyncio.wait(serving.tasks.values())
