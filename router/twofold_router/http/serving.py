"""What the connections of a server have in common."""

import asyncio
import inspect
import logging
import time
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Any, Protocol, cast

from twofold_router.http.errors import ClientGoneError
from twofold_router.http.limits import ServerLimits
from twofold_router.http.refusals import Refusal, RefusalAnswer, RefusedError
from twofold_router.http.request import Request
from twofold_router.http.responding import Responder

_log = logging.getLogger(__name__)

Handler = Callable[[Request, Responder], Coroutine[Any, Any, None]]
"""Answers a request. It is cancelled when the client leaves."""


WantsBody = Callable[[Request], bool]
"""Tells by the head of a request, its ``body`` still empty, whether its answer needs the body."""


class Expiring(Protocol):
    """A connection as its server sees it: it may have a limit of time, and it can be ended."""

    deadline: float

    def expire(self) -> None: ...

    def begin_drain(self) -> None: ...

    def abort(self) -> None: ...


class Serving:
    """The connections of a server, and the tasks of their handlers, which it owns.

    A task is kept by its responder until its handler has ended, which may be after its answer.
    """

    def __init__(
        self,
        handler: Handler,
        limits: ServerLimits,
        refusal: RefusalAnswer,
        clock: Callable[[], float],
        wants_body: WantsBody = lambda _request: True,
    ) -> None:
        self.limits = limits
        self.wants_body = wants_body
        self.refusal = refusal
        self.clock = clock
        self.connections: set[Expiring] = set()
        self.tasks: dict[Responder, asyncio.Task[None]] = {}
        self.is_draining = False
        self.date_line = b""
        self._handler = handler
        self._create_task = asyncio.get_running_loop().create_task
        self._emptied: asyncio.Event | None = None
        self._date_at = 0
        self.sweep()

    def start(self, request: Request, responder: Responder) -> None:
        """Run the handler in a task of its own."""
        self.tasks[responder] = self._create_task(self._handle(request, responder))

    def cancel(self, responder: Responder) -> None:
        """Cancel the handler that was to give this answer."""
        task = self.tasks[responder]
        task.cancel()
        if (
            inspect.getcoroutinestate(cast("Coroutine[Any, Any, None]", task.get_coro()))
            == inspect.CORO_CREATED
        ):
            # It will never run, and so not come to its end either.
            del self.tasks[responder]

    def forget(self, connection: Expiring) -> None:
        """Take note that *connection* is lost."""
        self.connections.discard(connection)
        if not self.connections and self._emptied is not None:
            self._emptied.set()

    async def emptied(self) -> None:
        """Wait until no connection is left."""
        self._emptied = asyncio.Event()
        if self.connections:
            await self._emptied.wait()

    def sweep(self) -> None:
        """End what is out of time, and note the date."""
        now = self.clock()
        for connection in [each for each in self.connections if each.deadline <= now]:
            connection.expire()
        date_at = int(time.time())
        if date_at != self._date_at:
            self._date_at = date_at
            self.date_line = b"date: %b\r\n" % formatdate(date_at, usegmt=True).encode()

    async def _handle(self, request: Request, responder: Responder) -> None:
        try:
            await self._handler(request, responder)
            if not responder.finished and not responder.gone:
                _log.error("a handler gave no whole answer", extra={"path": request.path})
        except ClientGoneError:
            pass
        except Exception:  # noqa: BLE001 - an edge loop: logged, and the client is told
            _log.exception("a handler failed")
        finally:
            del self.tasks[responder]
            if not responder.finished and not responder.gone:
                self._apologise(request, responder)

    def _apologise(self, request: Request, responder: Responder) -> None:
        """End an answer that its handler did not: never as if it were whole."""
        if responder.started:
            responder.abort()
        else:
            refused = RefusedError(Refusal.INTERNAL, "the request failed; see the log")
            refused.path, refused.headers = request.path, request.headers
            headers, body = self.refusal(refused)
            responder.send(Refusal.INTERNAL.value, headers, body)
