"""A router of several processes: real ones, that are asked, killed and ended."""

import asyncio
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from twofold_cluster.identity import Role
from twofold_cluster.membership import Announcer, connect
from twofold_router.access.minting import hash_of
from twofold_router.http import Responder
from twofold_router.testing import MODEL, FakeEngine, make_worker, serve_engine, text_of

if TYPE_CHECKING:
    from tests.integration.conftest import Valkey

SERVICE = "fake-service"
PROCESSES = 3
ASK = {"model": MODEL, "prompt": "hello"}
STREAM = ASK | {"stream": True}
START_SECONDS = 30.0
SETTLE_SECONDS = 15.0


class Router:
    """A router as a process, and its children as seen from outside."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def client(self) -> httpx.AsyncClient:
        """Make a client of one connection, which some gateway process has accepted."""
        limits = httpx.Limits(max_connections=1)
        return httpx.AsyncClient(base_url=self.url, limits=limits, timeout=30)

    def accepted_by(self, child: psutil.Process) -> int:
        """Return how many connections of clients *child* has."""
        return sum(
            each.laddr.port == self.port and each.status == psutil.CONN_ESTABLISHED
            for each in child.net_connections("tcp")
        )

    async def metric(self, sample: str) -> float:
        """Return a sample of /metrics as any of the processes tells it, 0 if there is none."""
        async with self.client() as client:
            text = (await client.get("/metrics")).text
        found = re.search(rf"^{re.escape('twofold_router_' + sample)} (\S+)$", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    async def until(self, sample: str, wanted: float) -> None:
        async with asyncio.timeout(SETTLE_SECONDS):
            while await self.metric(sample) != wanted:
                await asyncio.sleep(0.05)

    async def until_complete(self) -> None:
        """Wait until all processes serve, and know a worker."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                try:
                    async with self.client() as client:
                        if (await client.get("/ready")).status_code == 200:
                            break
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)
        await self.until('processes{state="answering"}', PROCESSES)

    async def terminate(self) -> bytes:
        """End it as Kubernetes does; return what it has logged."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> bytes:
        async with asyncio.timeout(SETTLE_SECONDS):
            _, log = await self.process.communicate()
        return log


def command(*options: str) -> list[str]:
    return [sys.executable, "-W", "error", "-X", "dev", "-m", "twofold_router", *options]


@asynccontextmanager
async def running(*options: str, processes: int = PROCESSES) -> AsyncIterator[Router]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
    words = command("--port", str(port), "--processes", str(processes), *options)
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE)
    try:
        yield Router(process, port)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


class HoldingEngine(FakeEngine):
    """Holds up all its streams after their first event until they ``may_go_on``."""

    def __init__(self) -> None:
        super().__init__(make_worker("w", Role.BOTH, service=SERVICE), {})
        self.may_go_on = asyncio.Event()

    async def _stream(self, pieces: Sequence[bytes], responder: Responder) -> None:
        responder.start(200, [(b"content-type", b"text/event-stream")])
        responder.write(pieces[0])
        await self.may_go_on.wait()
        responder.write(b"".join(pieces[1:]))
        responder.finish()


@asynccontextmanager
async def one_engine() -> AsyncIterator[HoldingEngine]:
    engine = HoldingEngine()
    async with serve_engine(engine):
        yield engine


@asynccontextmanager
async def router_and_engine(*options: str) -> AsyncIterator[tuple[Router, HoldingEngine]]:
    async with one_engine() as engine:
        worker = f"--worker=both={engine.worker.address}"
        async with running(worker, *options) as router:
            await router.until_complete()
            yield router, engine


class Streams:
    """Streams that have begun and are held up by their engine, each on its own connection."""

    def __init__(self, router: Router, engine: HoldingEngine) -> None:
        self._router = router
        self._engine = engine
        self._stack = AsyncExitStack()
        self._open: list[AsyncIterator[bytes]] = []

    async def __aenter__(self) -> "Streams":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def begin(self, count: int) -> None:
        for _ in range(count):
            client = await self._stack.enter_async_context(self._router.client())
            request = client.stream("POST", "/v1/completions", json=STREAM)
            response = await self._stack.enter_async_context(request)
            pieces = response.aiter_raw()
            await anext(pieces)
            self._open.append(pieces)

    async def finish(self) -> list[bool]:
        """Let all go on. Returns for each whether it came to its end."""
        self._engine.may_go_on.set()
        return [await self._read(pieces) for pieces in self._open]

    async def _read(self, pieces: AsyncIterator[bytes]) -> bool:
        try:
            rest = b"".join([piece async for piece in pieces])
        except httpx.TransportError:
            return False
        return rest.endswith(b"data: [DONE]\n\n")


def assert_ended_well(router: Router, log: bytes) -> None:
    assert router.process.returncode == 0, log
    assert log.count(b'"message":"stopped"') == 1 + PROCESSES, log
    assert b"Traceback" not in log, log
    assert b"Warning" not in log, log
    assert b"hello" not in log


async def ask_from_all(router: Router, clients: Sequence[httpx.AsyncClient]) -> None:
    for client in clients:
        answer = await client.post("/v1/completions", json=ASK)
        assert answer.json()["choices"][0]["text"] == text_of(0, 3)


async def test_all_processes_serve_and_one_tells_the_counts_of_all() -> None:
    async with router_and_engine() as (router, _), AsyncExitStack() as stack:
        clients: list[httpx.AsyncClient] = []
        async with asyncio.timeout(SETTLE_SECONDS):
            while not all(map(router.accepted_by, router.children())):
                clients.append(await stack.enter_async_context(router.client()))
                await ask_from_all(router, clients[-1:])
        connections = await router.metric("connections")
        await ask_from_all(router, clients)
        served = 'requests_total{mode="aggregated",reason="",status="2xx"}'
        await router.until(served, 2 * len(clients))
        log = await router.terminate()

    assert connections >= len(clients)
    assert_ended_well(router, log)
    assert {b'"gateway":%d' % number in log for number in range(1, PROCESSES + 1)} == {True}


async def test_a_killed_process_loses_its_own_streams_and_is_replaced() -> None:
    async with router_and_engine() as (router, engine), Streams(router, engine) as streams:
        await streams.begin(12)
        await router.until("in_flight", 12)
        victim = max(router.children(), key=router.accepted_by)
        its_own = router.accepted_by(victim)

        victim.kill()
        await router.until("in_flight", 12 - its_own)
        finished = await streams.finish()

        await router.until("in_flight", 0)
        await router.until("process_ends_total", 1)
        await router.until('processes{state="answering"}', PROCESSES)
        children = router.children()
        async with router.client() as client:
            await ask_from_all(router, [client])
        log = await router.terminate()

    assert its_own > 0
    assert finished.count(False) == its_own
    assert victim.pid not in {child.pid for child in children}
    assert len(children) == PROCESSES
    assert router.process.returncode == 0
    assert b"a gateway process ended" in log


async def test_counts_do_not_go_down_when_a_process_is_killed() -> None:
    async with router_and_engine() as (router, _):
        async with router.client() as client:
            for _ in range(7):
                await ask_from_all(router, [client])
            served = 'requests_total{mode="aggregated",reason="",status="2xx"}'
            await router.until(served, 7)
            for victim in router.children():
                victim.kill()
        await router.until("process_ends_total", PROCESSES)
        after = await router.metric(served)

    assert after == 7


async def test_without_the_placement_process_streams_end_well_and_then_all_processes() -> None:
    async with router_and_engine() as (router, engine), Streams(router, engine) as streams:
        await streams.begin(6)
        children = router.children()
        busy = [child for child in children if router.accepted_by(child)]

        router.process.kill()
        idle = [child for child in children if child not in busy]
        _, alive = await asyncio.to_thread(psutil.wait_procs, idle, timeout=SETTLE_SECONDS)
        still_busy = [child.is_running() for child in busy]
        async with asyncio.timeout(SETTLE_SECONDS):
            while await listens(router):
                await asyncio.sleep(0.05)
        finished = await streams.finish()

        _, left = await asyncio.to_thread(psutil.wait_procs, busy, timeout=SETTLE_SECONDS)
        log = await router.ended()

    assert not alive
    assert all(still_busy)
    assert finished == [True] * 6
    assert not left
    assert b"the placement process has gone" in log


async def listens(router: Router) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", router.port)
    except OSError:
        return False
    writer.close()
    return True


@pytest.mark.parametrize("to_all", [False, True], ids=["SIGTERM", "Ctrl-C"])
async def test_streams_are_finished_when_the_router_is_to_end(to_all: bool) -> None:
    async with router_and_engine() as (router, engine), Streams(router, engine) as streams:
        await streams.begin(6)

        if to_all:
            for child in router.children():
                child.send_signal(signal.SIGINT)
        router.process.send_signal(signal.SIGINT if to_all else signal.SIGTERM)
        async with asyncio.timeout(SETTLE_SECONDS):
            while await listens(router):
                await asyncio.sleep(0.05)
        finished = await streams.finish()
        log = await router.ended()

    assert finished == [True] * 6
    assert_ended_well(router, log)


async def test_the_limits_of_a_key_hold_over_all_processes(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(
        f'[[key]]\nname = "k"\nhash = "{hash_of("secret")}"\ntenant = "t"\n'
        "requests_per_minute = 5\n"
    )
    headers = {"Authorization": "Bearer secret"}
    async with (
        router_and_engine("--keys-file", str(path)) as (router, _),
        AsyncExitStack() as stack,
    ):
        answers: list[httpx.Response] = []
        async with asyncio.timeout(SETTLE_SECONDS):
            while len(answers) < 10 or not all(map(router.accepted_by, router.children())):
                client = await stack.enter_async_context(router.client())
                answers.append(await client.post("/v1/completions", json=ASK, headers=headers))
        log = await router.terminate()

    assert [answer.status_code for answer in answers] == [200] * 5 + [429] * (len(answers) - 5)
    remaining = [answer.headers["x-ratelimit-remaining-requests"] for answer in answers[:6]]
    assert remaining == ["4", "3", "2", "1", "0", "0"]
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers[5:])
    assert_ended_well(router, log)


async def test_all_processes_know_whether_the_workers_can_be_followed(valkey: "Valkey") -> None:
    options = ("--service", SERVICE, "--redis", valkey.url)
    async with (
        one_engine() as engine,
        running(*options) as router,
        connect(valkey.url) as redis,
        asyncio.TaskGroup() as tasks,
        AsyncExitStack() as stack,
    ):
        announcing = tasks.create_task(Announcer(redis, engine.worker).run())
        await router.until_complete()
        clients: list[httpx.AsyncClient] = []
        async with asyncio.timeout(SETTLE_SECONDS):
            while not all(map(router.accepted_by, router.children())):
                clients.append(await stack.enter_async_context(router.client()))
                await ask_from_all(router, clients[-1:])
        await until_all_are(clients, stale=False)
        announcing.cancel()
        valkey.kill()

        await until_all_are(clients, stale=True)
        await ask_from_all(router, clients)
        log = await router.terminate()

    assert_ended_well(router, log)


async def until_all_are(clients: Sequence[httpx.AsyncClient], *, stale: bool) -> None:
    async with asyncio.timeout(SETTLE_SECONDS):
        for client in clients:
            while (await client.get("/ready")).json()["stale"] is not stale:
                await asyncio.sleep(0.05)


async def test_who_comes_while_a_process_is_replaced_is_served() -> None:
    async with router_and_engine() as (router, _):
        for victim in router.children():
            victim.send_signal(signal.SIGSTOP)
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
            clients = [await stack.enter_async_context(router.client()) for _ in range(12)]
            asked = [tasks.create_task(c.post("/v1/completions", json=ASK)) for c in clients]
            await until_connected(router, 12)
            for victim in router.children():
                victim.kill()
            answers = await asyncio.gather(*asked)

    assert [answer.status_code for answer in answers] == [200] * 12


async def until_connected(router: Router, count: int) -> None:
    """Wait until *count* connections of ours are made, though nobody may have accepted them."""
    async with asyncio.timeout(SETTLE_SECONDS):
        while True:
            ours = psutil.Process().net_connections("tcp")
            made = [each for each in ours if each.raddr and each.raddr.port == router.port]
            if sum(each.status == psutil.CONN_ESTABLISHED for each in made) >= count:
                return
            await asyncio.sleep(0.05)


async def test_a_second_router_does_not_share_the_port_of_the_first() -> None:
    async with router_and_engine() as (router, _):
        words = command(*NOWHERE, "--port", str(router.port))
        ended = await asyncio.to_thread(
            subprocess.run, words, capture_output=True, text=True, timeout=30, check=False
        )

    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{router.port}" in ended.stderr


NOWHERE = ["--worker", "both=http://127.0.0.1:1", "--processes", "2"]

BAD = [
    ([*NOWHERE, "--port", "0", "--keys-file", "/no/such/file"], "/no/such/file: No such file"),
    ([*NOWHERE, "--port", "0", "--processes", "65"], "processes is 65"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[message for _, message in BAD])
def test_a_bad_value_is_one_line_and_exit_code_2(options: list[str], message: str) -> None:
    ended = subprocess.run(
        command(*options), capture_output=True, text=True, timeout=30, check=False
    )

    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_port_in_use_is_one_line_and_exit_code_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        words = command(*NOWHERE, "--port", str(port))
        ended = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)

    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr
    assert ended.stderr.count("\n") == 1
