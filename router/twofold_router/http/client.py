"""The client: connections to workers, kept by origin and reused."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache

from twofold_router.http.client_connection import Body, ClientConnection
from twofold_router.http.errors import UnreachableError
from twofold_router.http.headers import HeaderPairs, header_lines
from twofold_router.http.limits import ClientLimits
from twofold_router.http.response import Response
from twofold_router.http.sweeping import Sweeping

_ORIGIN = re.compile(r"http://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?/?")

_CLOSE_SECONDS = 1.0
"""For the loop to close what was aborted."""


class Origin:
    """One worker's address, and the connections to it.

    Invariant: what is in ``idle`` is in ``connections`` too, has no request, and stands in the
    order in which it became idle.
    """

    __slots__ = (
        "_clock",
        "_limits",
        "connecting_count",
        "connections",
        "host",
        "host_line",
        "idle",
        "port",
    )

    def __init__(self, url: str, limits: ClientLimits, clock: Callable[[], float]) -> None:
        match = _ORIGIN.fullmatch(url)
        if match is None:
            raise ValueError(f"{url!r} is no origin such as http://host:port")
        host, port = match.groups()
        self.host = host.strip("[]")
        self.port = int(port or 80)
        self.host_line = f"host: {host}:{self.port}\r\n".encode()
        self.idle: dict[ClientConnection, None] = {}
        self.connections: set[ClientConnection] = set()
        self.connecting_count = 0
        self._limits = limits
        self._clock = clock

    def take(self) -> ClientConnection | None:
        """Return the connection that was used last, if it can still be trusted."""
        now = self._clock()
        while self.idle:
            connection, _ = self.idle.popitem()
            if connection.idle_until > now and not connection.is_closing:
                return connection
            connection.abort()
        return None

    def keep(self, connection: ClientConnection) -> None:
        if len(self.idle) < self._limits.idle_connections_per_origin:
            connection.idle_until = self._clock() + self._limits.idle_seconds
            self.idle[connection] = None
        else:
            connection.abort()

    def forget(self, connection: ClientConnection) -> None:
        self.connections.discard(connection)
        self.idle.pop(connection, None)

    def sweep(self) -> None:
        """Close what was idle for too long."""
        now = self._clock()
        while self.idle and (oldest := next(iter(self.idle))).idle_until <= now:
            del self.idle[oldest]
            oldest.abort()


class Client:
    """Sends requests to origins (``http://host:port``) over connections that it keeps.

    The number of connections is bounded by the number of requests that the caller sends at once.
    """

    def __init__(self, limits: ClientLimits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._origins: dict[str, Origin] = {}

    @property
    def connections(self) -> int:
        """How many there are, idle ones included."""
        return sum(len(origin.connections) for origin in self._origins.values())

    async def request(
        self,
        origin: str,
        method: str,
        path: str,
        headers: HeaderPairs,
        body: Body = None,
        *,
        on_sent: Callable[[], None] | None = None,
    ) -> Response:
        """Send a request and return its answer as soon as its head has come.

        Host and Content-Length are added to *headers*; a *body* in pieces is sent as one.
        *on_sent* is called when the kernel has taken the whole request, and never when it is cut
        before. Nothing is sent twice: a kept connection that turns out to be closed is replaced
        only before it is written to. The caller bounds the time; to cancel it aborts the request
        at the worker.

        Raises:
            UnreachableError: the worker has not seen the request.
            BrokenError: it may have.
        """
        there = self._origins.get(origin)
        if there is None:
            there = self._origins[origin] = Origin(origin, self._limits, self._clock)
        head = _head(method, path, there, headers, body)
        connection = there.take() or await self._connect(there)
        return await connection.exchange(head, body, is_head=method == "HEAD", on_sent=on_sent)

    def sweep(self) -> None:
        """Close what was idle for too long, and forget origins that nobody uses."""
        for url, origin in list(self._origins.items()):
            origin.sweep()
            if not origin.connections and not origin.connecting_count:
                del self._origins[url]

    async def close(self) -> None:
        """Abort all connections."""
        for origin in self._origins.values():
            for connection in list(origin.connections):
                connection.abort()
        async with asyncio.timeout(_CLOSE_SECONDS):
            while self.connections:  # noqa: ASYNC110 - a turn of the loop or two
                await asyncio.sleep(0)

    async def _connect(self, origin: Origin) -> ClientConnection:
        loop = asyncio.get_running_loop()
        limits = self._limits
        origin.connecting_count += 1
        try:
            async with asyncio.timeout(limits.connect_seconds):
                _, connection = await loop.create_connection(
                    lambda: ClientConnection(limits, origin), origin.host, origin.port
                )
        except (OSError, TimeoutError) as error:
            message = f"{origin.host}:{origin.port} cannot be reached"
            raise UnreachableError(message) from error
        finally:
            origin.connecting_count -= 1
        origin.connections.add(connection)
        if connection.is_closing:
            raise UnreachableError(f"{origin.host}:{origin.port} closes its connections")
        return connection


@asynccontextmanager
async def open_client(limits: ClientLimits) -> AsyncIterator[Client]:
    """Open a client for the duration of the block."""
    client = Client(limits, asyncio.get_running_loop().time)
    sweeping = Sweeping(client.sweep)
    try:
        yield client
    finally:
        sweeping.stop()
        await client.close()


def _head(method: str, path: str, origin: Origin, headers: HeaderPairs, body: Body) -> bytes:
    if body is None:
        length = b""
    else:
        size_bytes = len(body) if isinstance(body, bytes) else sum(map(len, body))
        length = b"content-length: %d\r\n" % size_bytes
    lines = header_lines(headers)
    return b"%b%b%b%b\r\n" % (_start_line(method, path), origin.host_line, lines, length)


@lru_cache(maxsize=64)
def _start_line(method: str, path: str) -> bytes:
    line = f"{method} {path} HTTP/1.1\r\n".encode("ascii")
    if len(line.splitlines()) != 1 or line.count(b" ") != 2 or 0 in line:
        raise ValueError(f"{method} {path!r} is no request line")
    return line
