"""Engine processes that hold blocks, as those who read see them, and peers that misbehave."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from twofold_kvtransfer.blocks import BlockIds
from twofold_kvtransfer.digesting import Digester
from twofold_kvtransfer.lease import Reader
from twofold_kvtransfer.leases import Ended, LeaseTable
from twofold_kvtransfer.shelf import Shelf
from twofold_kvtransfer.side_channel import Desk, Hello, Host, Welcome
from twofold_kvtransfer.side_channel.messages import Answer, Question, decode_answer, frame
from twofold_kvtransfer.sources import Source
from twofold_kvtransfer.transports.testing import (
    HostBlocks,
    MemoryNetwork,
    MemoryTransport,
    host_blocks,
)
from twofold_kvtransfer.viewing import LocalView, View

LOCALHOST = "127.0.0.1"
WAIT_SECONDS = 30.0
"""For what a test waits for: a bound, not a measurement."""

LONG = 1000.0
"""Seconds that no test lives to see: of a lease, a renewal or a limit that it is not about."""


class Clock:
    """Stands still until it is moved on; counts how often it was looked at."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return self.now


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def hello(
    worker: str = "d",
    incarnation: str = "1",
    *,
    rank: int = 0,
    tensor_parallel: int = 1,
    block_bytes: int = 64,
) -> Hello:
    return Hello(
        compatibility="c",
        transport="memory",
        tensor_parallel=tensor_parallel,
        block_bytes=block_bytes,
        reader=Reader(worker, incarnation, rank),
    )


@dataclass
class Holder:
    """One rank that holds blocks, without a thread: its desk, its leases and its transport."""

    engine_id: str
    port: int
    blocks: HostBlocks
    transport: MemoryTransport
    leases: LeaseTable
    desk: Desk
    tensor_parallel: int
    clock: Clock
    digester: Digester | None
    ended: list[Ended] = field(default_factory=list)

    def grant(self, request_id: str, blocks: tuple[int, ...] = (0, 1)) -> Source:
        """Hold *blocks*, and return what their reader is told."""
        self.leases.grant(request_id, self.clock.now)
        return self.source(request_id, blocks)

    def source(self, request_id: str, blocks: tuple[int, ...] = (0, 1)) -> Source:
        return Source(
            self.engine_id, request_id, LOCALHOST, self.port, self.tensor_parallel, blocks
        )

    def collect(self) -> None:
        self.ended += self.leases.collect(self.clock.now)


def make_digester(blocks: HostBlocks) -> Digester:
    return Digester(blocks.map)


class PatientDigester(Digester):
    """Hands out its digests only when it is let."""

    def __init__(self, blocks: HostBlocks) -> None:
        super().__init__(blocks.map)
        self.made = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.unhurried: list[list[int]] = []

    async def digest(self, ids: BlockIds, part: tuple[int, int] = (0, 1)) -> list[int]:
        return await self._patiently(await super().digest(ids, part))

    async def digest_unhurried(self, ids: BlockIds, part: tuple[int, int] = (0, 1)) -> list[int]:
        self.unhurried.append(list(ids))
        return await self._patiently(await super().digest_unhurried(ids, part))

    async def _patiently(self, digests: list[int]) -> list[int]:
        self.made.set()
        await self.may_answer.wait()
        return digests


@asynccontextmanager
async def holding(
    network: MemoryNetwork,
    engine_id: str = "p:1",
    *,
    port: int = 0,
    rank: int = 0,
    tensor_parallel: int = 1,
    block_bytes: int = 64,
    lease_seconds: float = LONG,
    hello_seconds: float = 10.0,
    max_connections: int = 100,
    description: bytes | None = None,
    digester: Callable[[HostBlocks], Digester] | None = make_digester,
    max_slow_answers: int = 100,
    shelf: Shelf | None = None,
    view: View | None = None,
    secret: bytes | None = None,
) -> AsyncIterator[Holder]:
    blocks = host_blocks(3, 8, block_bytes, seed=rank + 1)
    made = digester(blocks) if digester is not None else None
    transport = network.join(blocks)
    leases = LeaseTable(lease_seconds)
    worker, _, incarnation = engine_id.rpartition(":")
    welcome = Welcome(
        worker=worker,
        incarnation=incarnation,
        blocks=blocks.map,
        description=description or transport.describe(),
    )
    clock = Clock()
    desk = Desk(
        Host(welcome, "c", "memory", tensor_parallel, rank, secret),
        leases,
        returned=lambda: holder.collect(),
        digester=made,
        view=view or LocalView(lambda: shelf),
        max_slow_answers=max_slow_answers,
        hello_seconds=hello_seconds,
        max_connections=max_connections,
        clock=clock,
    )
    holder = Holder(engine_id, 0, blocks, transport, leases, desk, tensor_parallel, clock, made)
    try:
        async with desk, await asyncio.start_server(desk.serve, LOCALHOST, port) as server:
            holder.port = server.sockets[0].getsockname()[1]
            yield holder
    finally:
        transport.close()
        if made is not None:
            made.close()


@asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[int]:
    """Have *handler* talk to whoever connects to the port that is yielded."""
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.create_task(talk(reader, writer)))

    async with await asyncio.start_server(accept, LOCALHOST, 0) as server:
        yield server.sockets[0].getsockname()[1]
    for task in talks:
        task.cancel()
    await asyncio.gather(*talks, return_exceptions=True)


class Stranger:
    """A connection on which anything may be sent."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, question: Question) -> Answer:
        self.writer.write(frame(question))
        return await self.answer()

    async def answer(self) -> Answer:
        async with asyncio.timeout(WAIT_SECONDS):
            size = int.from_bytes(await self.reader.readexactly(4), "big")
            return decode_answer(await self.reader.readexactly(size))

    async def is_let_go(self) -> bool:
        """Wait until the other side ends the connection, having said nothing more."""
        async with asyncio.timeout(WAIT_SECONDS):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True


@asynccontextmanager
async def stranger(port: int) -> AsyncIterator[Stranger]:
    reader, writer = await asyncio.open_connection(LOCALHOST, port)
    try:
        yield Stranger(reader, writer)
    finally:
        writer.transport.abort()


def drop_connections(holder: Holder) -> None:
    """Cut all connections of readers, as a network may; the holder lives on."""
    for writer in holder.desk._open:
        writer.transport.abort()


def free_ports(count: int) -> int:
    """Return the first of *count* ports in a row that nobody listens on."""
    for first in range(20_000, 60_000, count):
        try:
            for port in range(first, first + count):
                socket.create_server((LOCALHOST, port)).close()
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


async def until(what: Callable[[], object]) -> None:
    """Wait until *what* holds."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not what():
            await asyncio.sleep(0.001)
