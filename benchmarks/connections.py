"""Connections of a client that keeps them open, as many as it has requests at once."""

import asyncio
from collections.abc import Sequence
from itertools import cycle

from benchmarks.connection import Connection, Exchange
from benchmarks.processes import HOST

CONNECT_SECONDS = 10.0


class Connections:
    """Holds the idle ones; a request that takes one gives it back or closes it. New ones go to the
    ports in turn."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = cycle(ports)
        self._idle: list[Connection] = []

    async def send(self, parts: list[bytes | memoryview], exchange: Exchange) -> None:
        """Send a request and fill *exchange*; return when the answer or the connection ended."""
        connection = await self._take()
        try:
            await connection.send(parts, exchange)
        except BaseException:
            connection.close()
            raise
        if connection.usable:
            self._idle.append(connection)

    def close(self) -> None:
        """Close those that are idle."""
        for connection in self._idle:
            connection.close()

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await loop.create_connection(
                lambda: Connection(loop), HOST, next(self._ports)
            )
        return connection
