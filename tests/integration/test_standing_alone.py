"""Workers given by their URLs, over real sockets: no Redis, and servers that come and go."""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from twofold_cluster.identity import Role
from twofold_cluster.kv_events.following.testing import publisher
from twofold_cluster.worker import Worker
from twofold_router.http import Request, Responder
from twofold_router.http.client import open_client
from twofold_router.http.limits import ClientLimits
from twofold_router.metrics import Metrics
from twofold_router.running import open_dispatcher
from twofold_router.settings import RouterSettings
from twofold_router.static_workers import (
    GivenWorker,
    ProbeSettings,
    StaticWorkers,
    fetch_with,
    parse_worker_flags,
)
from twofold_router.static_workers.fetching import PAGE_BYTES
from twofold_router.static_workers.testing import Pages, vllm_pages
from twofold_router.testing import MODEL, FakeEngine, make_worker, serve_engine

SETTINGS = ProbeSettings(probe_interval_seconds=0.05, probe_timeout_seconds=1.0)
WAIT_SECONDS = 10.0
REMOVAL = {"type": "BlockRemoved", "block_hashes": [1], "medium": "GPU", "group_idx": 0}


@dataclass
class Server:
    """A server that answers with ``pages``, on a port that stays its own."""

    pages: Pages = field(default_factory=vllm_pages)
    port: int = 0
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _answer(self, request: web.Request) -> web.Response:
        status, body = self.pages.get(request.path, (404, b""))
        return web.Response(status=status, body=body)


class Changes:
    """What was told, as the set of workers that follows from it."""

    def __init__(self) -> None:
        self.workers: dict[str, Worker] = {}
        self._told = asyncio.Event()

    def note(self, changed: Sequence[Worker], gone: Sequence[Worker]) -> None:
        self.workers |= {worker.worker_id: worker for worker in changed}
        for worker in gone:
            del self.workers[worker.worker_id]
        self._told.set()

    async def until(self, ids: set[str]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while self.workers.keys() != ids:
                self._told.clear()
                await self._told.wait()


@pytest.fixture
async def servers() -> AsyncIterator[list[Server]]:
    made = [Server(), Server()]
    for server in made:
        await server.start()
    yield made
    for server in made:
        await server.stop()


@asynccontextmanager
async def following(given: Sequence[GivenWorker]) -> AsyncIterator[Changes]:
    changes = Changes()
    async with open_client(ClientLimits()) as client:
        static = StaticWorkers(
            given,
            fetch_with(client),
            service="service",
            on_change=changes.note,
            settings=SETTINGS,
        )
        task = asyncio.create_task(static.run())
        try:
            yield changes
            assert static.workers == changes.workers
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_workers_come_go_and_come_back_in_a_new_incarnation(servers: list[Server]) -> None:
    given = parse_worker_flags([f"prefill={servers[0].origin}", f"decode={servers[1].origin}/"])
    one, other = (worker.worker_id for worker in given)

    async with following(given) as changes:
        await changes.until({one, other})
        before = changes.workers[one]
        assert (before.role, before.model, before.kv_capacity_tokens) == (
            Role.PREFILL,
            "fake-model",
            16_000,
        )

        await servers[0].stop()
        await changes.until({other})

        await servers[0].start()
        await changes.until({one, other})
        assert changes.workers[one].incarnation > before.incarnation


async def test_a_sick_worker_is_gone_and_a_well_one_is_back(servers: list[Server]) -> None:
    given = [GivenWorker(Role.BOTH, servers[0].origin)]

    async with following(given) as changes:
        await changes.until({given[0].worker_id})

        servers[0].pages["/health"] = (503, b"")
        await changes.until(set())

        servers[0].pages = vllm_pages("another-model")
        await changes.until({given[0].worker_id})
        assert changes.workers[given[0].worker_id].model == "another-model"


async def test_a_server_that_is_no_vllm_serves(servers: list[Server]) -> None:
    given = [GivenWorker(Role.BOTH, servers[0].origin)]
    servers[0].pages = {"/health": (200, b"ok"), "/v1/models": (200, b'{"data": [{"id": "m"}]}')}

    async with following(given) as changes:
        await changes.until({given[0].worker_id})
        assert changes.workers[given[0].worker_id].model == "m"


async def test_what_breaks_is_told_as_the_port_says(servers: list[Server]) -> None:
    servers[0].pages["/large"] = (200, bytes(PAGE_BYTES + 1))
    async with open_client(ClientLimits()) as client:
        fetch = fetch_with(client)

        assert await fetch(servers[0].origin, "/version") == (200, b'{"version": "0.32.0"}')
        assert (await fetch(servers[0].origin, "/absent"))[0] == 404
        with pytest.raises(ConnectionError, match="larger than"):
            await fetch(servers[0].origin, "/large")
        with pytest.raises(ConnectionError) as raised:
            await fetch("http://no-such-host.invalid:80", "/health")
        assert not isinstance(raised.value, ConnectionRefusedError)
        await servers[1].stop()
        with pytest.raises(ConnectionRefusedError):
            await fetch(servers[1].origin, "/health")


async def test_a_router_process_serves_the_workers_that_it_is_given_without_redis() -> None:
    network: dict[str, FakeEngine] = {}
    prefill = FakeEngine(make_worker("p1", Role.PREFILL), network)
    decode = FakeEngine(make_worker("d1", Role.DECODE), network)
    url = f"http://127.0.0.1:{free_port()}"
    async with AsyncExitStack() as stack:
        for engine in (prefill, decode):
            await stack.enter_async_context(serve_engine(engine))
        flags = [f"--worker={e.worker.role}={e.worker.address}" for e in (prefill, decode)]
        router = await stack.enter_async_context(running_router(url, flags))
        client = await stack.enter_async_context(aiohttp.ClientSession())
        await until_ready_is(client, url, 200)
        await until_missing(client, url, [])
        body = {"model": MODEL, "prompt": "hello"}
        async with client.post(f"{url}/v1/completions", json=body) as response:
            answer = (response.status, response.headers["x-twofold-mode"])
            workers = [response.headers[f"x-twofold-{role}"] for role in ("prefill", "decode")]
        decode.pages["/health"] = (503, b"")
        await until_missing(client, url, ["decode worker"])
        router.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WAIT_SECONDS):
            _, log = await router.communicate()

    assert answer == (200, "disaggregated")
    assert workers == [e.worker.address.removeprefix("http://") for e in (prefill, decode)]
    assert router.returncode == 0
    assert b"Traceback" not in log


class GuardedEngine(FakeEngine):
    """Lets nobody in without its key, as vLLM does that was started with ``--api-key``."""

    key = "of-the-engines"

    async def handle(self, request: Request, responder: Responder) -> None:
        told = request.headers.get(b"authorization")
        if request.path.startswith("/v1") and told != b"Bearer " + self.key.encode():
            responder.send(401, (), b'{"error": "Unauthorized"}')
        else:
            await super().handle(request, responder)


@asynccontextmanager
async def guarded_engines() -> AsyncIterator[list[str]]:
    """Run a prefill and a decode worker of two names, and yield the flags that give them."""
    network: dict[str, FakeEngine] = {}
    async with AsyncExitStack() as stack:
        for name, role in (("p1", Role.PREFILL), ("d1", Role.DECODE)):
            engine = GuardedEngine(make_worker(name, role), network)
            engine.pages = vllm_pages(MODEL, aliases=["other"], adapters=["tuned"])
            await stack.enter_async_context(serve_engine(engine))
        yield [f"--worker={e.worker.role}={e.worker.address}" for e in network.values()]


@pytest.mark.parametrize("processes", [1, 2])
async def test_engines_with_a_key_serve_all_their_names_to_a_router_that_has_it(
    tmp_path: Path, processes: int
) -> None:
    file = tmp_path / "key"
    file.write_text(f"{GuardedEngine.key}\n")
    url = f"http://127.0.0.1:{free_port()}"
    key = {"authorization": "Bearer of-the-client"}
    async with (
        guarded_engines() as workers,
        running_router(
            url, [*workers, f"--engine-api-key-file={file}", f"--processes={processes}"]
        ),
        aiohttp.ClientSession() as client,
    ):
        await until_ready_is(client, url, 200)
        await until_missing(client, url, [])
        async with client.get(f"{url}/v1/models") as response:
            parents = {card["id"]: card.get("parent") for card in (await response.json())["data"]}
        modes = {}
        for name in parents:
            body = {"model": name, "prompt": "hello"}
            async with client.post(f"{url}/v1/completions", json=body, headers=key) as response:
                modes[name] = (response.status, response.headers["x-twofold-mode"])

    assert parents == {MODEL: None, "other": None, "tuned": MODEL}
    assert modes == dict.fromkeys(parents, (200, "disaggregated"))


async def test_a_router_without_the_engines_key_says_where_to_put_it() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with (
        guarded_engines() as workers,
        aiohttp.ClientSession() as client,
        running_router(url, workers) as router,
    ):
        ready = await until_all_fail(client, url, len(workers))
        router.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WAIT_SECONDS):
            _, log = await router.communicate()

    told = "/v1/models answered 401: put the engines' API key in TWOFOLD_ENGINE_API_KEY or the file"
    assert ready["status"] == "unready"
    assert all(reason.startswith(told) for reason in ready["failing"].values())
    assert told.encode() in log


async def test_a_worker_whose_flag_names_its_kv_events_is_followed_exactly(
    servers: list[Server],
) -> None:
    metrics = Metrics()
    followed = metrics.tallies.counter("kv_events")
    async with publisher() as source, asyncio.timeout(WAIT_SECONDS):
        await source.publish(REMOVAL)
        endpoints = f"kv-events={source.endpoint},kv-events-replay={source.replay_endpoint}"
        given = parse_worker_flags([f"both={servers[0].origin},{endpoints}"])
        settings = RouterSettings(workers=given)
        async with open_dispatcher(settings, None, metrics) as dispatcher:
            while followed.get(("batch",)) != 1:  # the one that was there before
                await asyncio.sleep(0.01)
            await source.publish(REMOVAL)
            while followed.get(("batch",)) != 2:
                await asyncio.sleep(0.01)
            mirrors = [worker.mirror_is for worker in dispatcher.snapshot().placement.workers]

    assert mirrors == ["exact"]
    assert source.asked_for[0] == 0


def test_a_service_and_a_worker_together_are_one_line_and_exit_code_2() -> None:
    flags = ["--worker", "both=http://127.0.0.1:1", "--service", "s"]
    options = [sys.executable, "-m", "twofold_router", *flags]
    ended = subprocess.run(options, capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 2
    assert ended.stderr == (
        "twofold_router: service is 's', and must be empty with workers: "
        "they are followed without Redis\n"
    )


def test_a_wrong_worker_is_one_line_and_exit_code_2() -> None:
    options = [sys.executable, "-m", "twofold_router", "--worker", "decode=https://a"]
    ended = subprocess.run(options, capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 2
    assert ended.stderr == (
        "twofold_router: --worker 'decode=https://a': "
        "https is not supported; the URL must begin with http://\n"
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@asynccontextmanager
async def running_router(
    url: str, flags: Sequence[str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [sys.executable, "-m", "twofold_router", "--port", url.rpartition(":")[2], *flags]
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until_ready_is(client: aiohttp.ClientSession, url: str, wanted: int) -> None:
    async with asyncio.timeout(20):
        while await read_ready(client, url) != wanted:
            await asyncio.sleep(0.05)


async def until_all_fail(client: aiohttp.ClientSession, url: str, count: int) -> dict[str, Any]:
    """Wait until the router at *url* says of *count* workers that they fail; return all it says."""
    await until_ready_is(client, url, 503)
    async with asyncio.timeout(20):
        while True:
            async with client.get(f"{url}/ready") as response:
                ready: dict[str, Any] = await response.json()
            if len(ready.get("failing", ())) == count:
                return ready
            await asyncio.sleep(0.05)


async def until_missing(client: aiohttp.ClientSession, url: str, wanted: list[str]) -> None:
    """Wait until the router at *url* says that *wanted* are missing."""
    async with asyncio.timeout(60):
        while True:
            async with client.get(f"{url}/ready") as response:
                if (await response.json())["missing"] == wanted:
                    return
            await asyncio.sleep(0.05)


async def read_ready(client: aiohttp.ClientSession, url: str) -> int:
    """Return the status; 0 while nobody listens."""
    try:
        async with client.get(f"{url}/ready") as response:
            return response.status
    except aiohttp.ClientConnectorError:
        return 0
