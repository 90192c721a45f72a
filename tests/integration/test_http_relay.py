"""Server and client together, between a real client and a scripted worker, over real sockets."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field

import httpx
import pytest

from twofold_router.http import (
    BrokenError,
    Client,
    ClientLimits,
    RefusedError,
    Request,
    Responder,
    Server,
    ServerLimits,
    UnreachableError,
    open_client,
    serve,
)

from .both_loops import on_both_loops

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class WorkerDouble:
    """A worker that follows a script on each connection."""

    script: Script
    origin: str = ""
    connection_count: int = 0
    lost: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connection_count += 1
        try:
            await self.script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.lost.set()
        finally:
            writer.close()


@asynccontextmanager
async def worker_of(script: Script) -> AsyncIterator[WorkerDouble]:
    worker = WorkerDouble(script)
    server = await asyncio.start_server(worker.serve, "127.0.0.1", 0)
    worker.origin = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield worker
    finally:
        server.close()


async def request_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or b"0")
    return head + await reader.readexactly(length)


async def polite(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await request_of(reader)
        writer.write(ANSWER)


async def ask(client: Client, origin: str) -> bytes:
    headers = [(b"content-type", b"text/plain")]
    response = await client.request(origin, "POST", "/", headers, b"ask")
    with closing(response):
        return await response.read(100)


@on_both_loops
async def test_a_connection_is_used_again() -> None:
    async with worker_of(polite) as worker, open_client(ClientLimits()) as client:
        for _ in range(3):
            assert await ask(client, worker.origin) == b"hello"

        assert worker.connection_count == 1


@on_both_loops
async def test_a_request_is_as_it_was_given() -> None:
    seen: list[bytes] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request_of(reader))
        writer.write(ANSWER)

    async with worker_of(script) as worker, open_client(ClientLimits()) as client:
        await ask(client, worker.origin)

    host = worker.origin.removeprefix("http://").encode()
    head = b"POST / HTTP/1.1\r\nhost: " + host + b"\r\ncontent-type: text/plain\r\n"
    assert seen == [head + b"content-length: 3\r\n\r\nask"]


@on_both_loops
async def test_a_connection_that_the_worker_closes_is_not_used_again() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(ANSWER)

    async with worker_of(script) as worker, open_client(ClientLimits()) as client:
        for _ in range(3):
            assert await ask(client, worker.origin) == b"hello"
            await asyncio.sleep(0.1)

        assert worker.connection_count == 3
        assert client.connections == 0


@on_both_loops
async def test_a_connection_is_not_used_after_an_error() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(ANSWER + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged")
        await reader.read()

    async with worker_of(script) as worker, open_client(ClientLimits()) as client:
        for _ in range(3):
            assert await ask(client, worker.origin) == b"hello"

        assert worker.connection_count == 3


@on_both_loops
async def test_nothing_is_sent_twice() -> None:
    async def script(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await request_of(reader)

    async with worker_of(script) as worker, open_client(ClientLimits()) as client:
        with pytest.raises(BrokenError):
            await ask(client, worker.origin)

        assert worker.connection_count == 1


@on_both_loops
async def test_who_does_not_listen_is_unreachable() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    listener.close()

    async with open_client(ClientLimits()) as client:
        with pytest.raises(UnreachableError):
            await ask(client, f"http://127.0.0.1:{port}")
        with pytest.raises(UnreachableError):
            await ask(client, "http://nowhere.invalid:1")


@on_both_loops
async def test_who_does_not_accept_in_time_is_unreachable() -> None:
    # A full backlog: the kernel answers nobody any more.
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    address = listener.getsockname()
    fillers = [socket.socket() for _ in range(8)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(address)
    try:
        async with open_client(ClientLimits(connect_seconds=0.3)) as client:
            with pytest.raises(UnreachableError):
                await ask(client, f"http://127.0.0.1:{address[1]}")
    finally:
        for opened in [listener, *fillers]:
            opened.close()


@on_both_loops
async def test_an_early_answer_to_a_large_request_is_read() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        await asyncio.sleep(1)

    async with worker_of(script) as worker, open_client(ClientLimits()) as client:
        body = [b"x" * 10_000_000] * 2
        response = await client.request(worker.origin, "POST", "/", [], body)
        assert await response.read(100) == b"hello"


@dataclass
class Relaying:
    """A relay in front of a worker."""

    port: int
    client: Client
    server: Server
    errors: list[Exception] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def relay_to(worker: WorkerDouble, limits: ServerLimits) -> AsyncIterator[Relaying]:
    async def handle(_request: Request, responder: Responder) -> None:
        response = await client.request(worker.origin, "POST", "/", [], b"ask")
        with closing(response):
            try:
                await response.relay(responder, response.status, [], finish=True)
            except BrokenError as error:
                relaying.errors.append(error)
                responder.write(b"[broken]")
                responder.finish()

    def refuse(refused: RefusedError) -> tuple[list[tuple[bytes, bytes]], bytes]:
        return [], refused.message.encode()

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    port = listener.getsockname()[1]
    async with (
        open_client(ClientLimits()) as client,
        serve(listener, handle, limits, refuse, drain_seconds=1.0) as server,
    ):
        relaying = Relaying(port, client, server)
        yield relaying


@on_both_loops
async def test_a_stream_is_relayed() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await request_of(reader)
            writer.write(STREAM)
            for count in range(100):
                piece = b"%d " % count
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await asyncio.sleep(0)
            writer.write(b"0\r\n\r\n")

    async with (
        worker_of(script) as worker,
        relay_to(worker, ServerLimits()) as relaying,
        httpx.AsyncClient() as client,
    ):
        for _ in range(3):
            answer = await client.get(relaying.url)
            assert answer.text.split() == [str(count) for count in range(100)]

        assert worker.connection_count == 1


@on_both_loops
async def test_a_broken_stream_is_told() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(STREAM + b"5\r\nhello\r\n10\r\npart")

    async with (
        worker_of(script) as worker,
        relay_to(worker, ServerLimits()) as relaying,
        httpx.AsyncClient() as client,
    ):
        answer = await client.get(relaying.url)

        assert answer.text == "hellopart[broken]"
        assert len(relaying.errors) == 1
        assert relaying.client.connections == 0


@on_both_loops
async def test_who_leaves_is_told_to_the_worker() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_of(reader)
        writer.write(STREAM + b"5\r\nhello\r\n")
        assert await reader.read() == b""
        raise ConnectionResetError

    async with worker_of(script) as worker, relay_to(worker, ServerLimits()) as relaying:
        client = socket.create_connection(("127.0.0.1", relaying.port))
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, client.recv, 100)
        client.close()
        async with asyncio.timeout(5):
            await worker.lost.wait()


@on_both_loops
async def test_a_client_that_does_not_read_stops_the_worker() -> None:
    sent_bytes = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent_bytes
        await request_of(reader)
        writer.write(STREAM)
        piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
        for _ in range(1000):
            writer.write(piece)
            await writer.drain()
            sent_bytes += len(piece)
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async with worker_of(script) as worker, relay_to(worker, ServerLimits()) as relaying:
        reader, writer = await asyncio.open_connection("127.0.0.1", relaying.port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        before = -1
        while before != sent_bytes or sent_bytes == 0:
            before = sent_bytes
            await asyncio.sleep(0.3)
        stuck_at_bytes = sent_bytes
        received_bytes = 0
        while piece := await reader.read(1 << 20):
            received_bytes += len(piece)
        writer.close()

    # What the kernel's buffers of both connections take, and little of ours.
    assert stuck_at_bytes < 30_000_000
    assert sent_bytes == 1000 * (65536 + 9)
    assert received_bytes > 1000 * 65536


@on_both_loops
async def test_who_come_and_go_leave_nothing_behind() -> None:
    chance = random.Random(7)
    serving_count = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal serving_count
        while True:
            await request_of(reader)
            serving_count += 1
            try:
                writer.write(STREAM)
                for _ in range(chance.randrange(20)):
                    writer.write(b"5\r\nhello\r\n")
                    await asyncio.sleep(0.001)
                    if writer.is_closing():
                        return
                if chance.random() < 0.1:
                    return
                writer.write(b"0\r\n\r\n")
            finally:
                serving_count -= 1

    async def come_and_go(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * chance.randrange(1, 4))
            async with asyncio.timeout(chance.random() * 0.1):
                await reader.readuntil(b"0\r\n\r\n")
        except (TimeoutError, ConnectionError):
            pass
        finally:
            if chance.random() < 0.5:
                writer.transport.abort()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async with worker_of(script) as worker, relay_to(worker, ServerLimits()) as relaying:
        for _ in range(5):
            await asyncio.gather(*[come_and_go(relaying.port) for _ in range(50)])
        async with asyncio.timeout(10):
            while relaying.server.connections or serving_count or relaying.client.connections:
                await asyncio.sleep(0.01)
