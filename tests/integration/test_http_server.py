"""The server against real sockets and real clients."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

import aiohttp
import httpx
import pytest

from twofold_router.http import RefusedError, Request, Responder, Server, ServerLimits, serve

from .both_loops import on_both_loops

LIMITS = ServerLimits(linger_seconds=1.0)

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class Site:
    """A server that listens, and what its handlers did."""

    server: Server
    port: int
    cancelled_count: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def exchange(self, data: bytes) -> bytes:
        """Send *data* and return all that comes back until the server closes."""
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(data)
            try:
                return await reader.read()
            finally:
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def opened(
    limits: ServerLimits = LIMITS,
    drain_seconds: float = 1.0,
    wants_body: Callable[[Request], bool] = lambda _request: True,
) -> AsyncIterator[Site]:
    async def handle(request: Request, responder: Responder) -> None:
        if request.path == "/wait":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                site.cancelled_count += 1
                raise
        if request.path == "/stream":
            responder.start(200, [(b"content-type", b"text/plain")])
            for count in range(100):
                responder.write(b"%d " % count)
                await asyncio.sleep(0)
            responder.finish()
        elif request.path == "/soon":
            await asyncio.sleep(0.3)
            responder.send(200, [], b"soon")
        elif request.path == "/endless":
            responder.start(200, [])
            while True:
                responder.write(b"x" * 65536)
                await responder.drain()
        else:
            responder.send(200, [], b"%d" % len(request.body))

    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    port = listener.getsockname()[1]
    async with serve(
        listener, handle, limits, refuse, drain_seconds=drain_seconds, wants_body=wants_body
    ) as server:
        site = Site(server, port)
        yield site


def refuse(refused: RefusedError) -> tuple[list[tuple[bytes, bytes]], bytes]:
    return [(b"x-kind", refused.kind.name.encode())], refused.message.encode()


@pytest.mark.parametrize("size", [0, 1, 100_000, 10_000_000])
@on_both_loops
async def test_httpx_is_served(size: int) -> None:
    async with opened() as site, httpx.AsyncClient() as client:
        for _ in range(3):
            answer = await client.post(site.url, content=b"x" * size)
            assert answer.text == str(size)
        stream = await client.get(site.url + "/stream")
        assert site.server.connections == 1

    assert stream.text.split() == [str(count) for count in range(100)]


@on_both_loops
async def test_aiohttp_is_served_with_chunks_both_ways() -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"x" * 1000

    async with opened() as site, aiohttp.ClientSession() as session:
        async with session.post(site.url, data=body(), expect100=True) as answer:
            assert await answer.text() == "1000000"
        async with session.get(site.url + "/stream") as answer:
            assert len((await answer.text()).split()) == 100


@pytest.mark.parametrize(
    "options",
    [
        ["-T", "-"],
        ["--data-binary", "@-"],
        ["--data-binary", "@-", "-H", "Expect: 100-continue"],
        ["--data-binary", "@-", "--http2"],
        ["--data-binary", "@-", "--http1.0"],
        ["--data-binary", "@-", "-H", "Transfer-Encoding: chunked"],
    ],
)
@on_both_loops
async def test_curl_is_served(options: list[str]) -> None:
    async with opened() as site:
        process = await asyncio.create_subprocess_exec(
            *("curl", "-sS", "-m", "10", *options, site.url),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate(b"x" * 200_000)

    assert output == b"200000"


@on_both_loops
async def test_who_sends_too_much_reads_why() -> None:
    limits = replace(LIMITS, body_bytes=1000)
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n"
    async with opened(limits) as site:
        answer = await site.exchange(head + b"x" * 4_000_000)

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"BODY_TOO_LARGE" in answer


def send_then_read(port: int, size_bytes: int) -> bytes:
    """Do as urllib and requests do: send all of a body, and only then read."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size_bytes
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connected:
        connected.sendall(head + b"x" * size_bytes)
        return connected.recv(1000)


@on_both_loops
async def test_who_sends_far_too_much_before_reading_reads_why() -> None:
    async with opened() as site:
        answer = await asyncio.to_thread(send_then_read, site.port, 100_000_000)

    assert answer.startswith(b"HTTP/1.1 413 ")


@on_both_loops
async def test_who_sends_all_of_an_unwanted_body_reads_the_answer() -> None:
    async with opened(wants_body=lambda _request: False) as site:
        answer = await asyncio.to_thread(send_then_read, site.port, 30_000_000)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n0")


@on_both_loops
async def test_one_connection_too_many_is_told() -> None:
    async with opened(replace(LIMITS, connection_count=1)) as site:
        _, writer = await asyncio.open_connection("127.0.0.1", site.port)
        await site.until(lambda: site.server.connections == 1)
        answer = await site.exchange(GET)
        writer.close()

    assert answer.startswith(b"HTTP/1.1 503 ")


@on_both_loops
async def test_a_slow_header_is_answered_408() -> None:
    async with opened(replace(LIMITS, header_seconds=0.1)) as site:
        answer = await site.exchange(GET[:-1])

    assert answer.startswith(b"HTTP/1.1 408 ")


@on_both_loops
async def test_an_idle_connection_is_closed() -> None:
    async with opened(replace(LIMITS, idle_seconds=0.1)) as site:
        answer = await site.exchange(GET)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n0")


@pytest.mark.parametrize("how", ["close", "reset", "half"])
@on_both_loops
async def test_who_leaves_cancels_the_handler(how: str) -> None:
    async with opened() as site:
        client = socket.create_connection(("127.0.0.1", site.port))
        client.sendall(GET.replace(b"GET /", b"GET /wait"))
        await asyncio.sleep(0.1)
        if how == "half":
            client.shutdown(socket.SHUT_WR)
        else:
            if how == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
        await site.until(lambda: site.cancelled_count == 1)
        await site.until(lambda: site.server.connections == 0)
        client.close()


@on_both_loops
async def test_who_does_not_read_is_left() -> None:
    async with opened(replace(LIMITS, write_seconds=0.3)) as site:
        client = socket.create_connection(("127.0.0.1", site.port))
        client.sendall(GET.replace(b"GET /", b"GET /endless"))
        await site.until(lambda: site.server.connections == 1)
        await site.until(lambda: site.server.connections == 0)
        client.close()


@on_both_loops
async def test_a_shutdown_lets_answers_end_and_takes_no_more() -> None:
    async with opened() as site:
        async with httpx.AsyncClient() as client:
            idle = await client.get(site.url)
            task = asyncio.create_task(site.exchange(GET.replace(b"GET /", b"GET /soon")))
            await site.until(lambda: site.server.connections == 2)
            await asyncio.sleep(0.1)
            await site.server.shutdown(5.0)
            answer = await task
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", site.port))

    assert idle.status_code == 200
    assert b"connection: close" in answer
    assert answer.endswith(b"soon")


@on_both_loops
async def test_a_shutdown_does_not_wait_longer_than_told() -> None:
    async with opened() as site:
        task = asyncio.create_task(site.exchange(GET.replace(b"GET /", b"GET /wait")))
        await site.until(lambda: site.server.connections == 1)
        await asyncio.sleep(0.1)
        began_at = time.monotonic()
        await site.server.shutdown(0.2)
        seconds = time.monotonic() - began_at

    assert site.cancelled_count == 1
    assert 0.2 <= seconds < 2
    with pytest.raises(ConnectionError):
        await task
