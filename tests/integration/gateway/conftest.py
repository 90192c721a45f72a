"""A gateway as the router runs it, before fake engines, and a client of it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
import msgspec
import pytest
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from twofold_cluster.identity import Role
from twofold_cluster.worker import Worker
from twofold_router.access import Keyring, LocalLimiter
from twofold_router.gateway import Admitting, Dispatcher, Gateway, listen, open_gateway, url_of
from twofold_router.metrics import PREFIX, Metrics, RouterSnapshot, metrics_text
from twofold_router.placement import make_placement
from twofold_router.running import running
from twofold_router.settings import RouterSettings
from twofold_router.testing import MODEL, FakeEngine, Received, make_worker, serve_engine

CHAT = "/v1/chat/completions"
JSON = "application/json"
HELLO = [{"role": "user", "content": "hello"}]
ROLES = {"p": Role.PREFILL, "d": Role.DECODE, "b": Role.BOTH}

OpenCluster = Callable[..., AbstractAsyncContextManager["Cluster"]]


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories() -> dict[str, type[asyncio.AbstractEventLoop]]:
    """Use the loop that the router uses."""
    return {"uvloop": uvloop.Loop}


@pytest.fixture
def open_cluster() -> OpenCluster:
    """Open a gateway with engines ``p1 p2 d1 d2``, or others; keyword arguments are settings."""
    return _open_cluster


@dataclass
class Cluster:
    """A gateway, its engines and a client."""

    engines: dict[str, FakeEngine]
    dispatcher: Dispatcher
    metrics: Metrics
    gateway: Gateway
    client: httpx.AsyncClient
    keeps_leases: bool = False
    """Set by a test that leaves blocks whose lease has to end by itself."""
    _served: dict[str, Worker] = field(default_factory=dict)

    def __getitem__(self, name: str) -> FakeEngine:
        return self.engines[name]

    def follow(self, *names: str) -> None:
        """Have the gateway know the engines *names*, as they are now, and no others."""
        workers = {name: self.engines[name].worker for name in names}
        gone = [worker for name, worker in self._served.items() if name not in workers]
        self._served = workers
        self.dispatcher.follow(list(workers.values()), gone)

    def unreach(self, name: str) -> Worker:
        """Have engine *name* announce an address where nobody listens; return what it was."""
        engine, before = self.engines[name], self.engines[name].worker
        engine.worker = msgspec.structs.replace(before, address="http://127.0.0.1:1")
        self.follow(*self.engines)
        return before

    def restore(self, worker: Worker) -> None:
        self.engines[worker.worker_id].worker = worker
        self.follow(*self.engines)

    async def ask(
        self, path: str = CHAT, headers: dict[str, str] | None = None, **body: Any
    ) -> "Seen":
        response = await self.client.post(path, json=_body(body), headers=headers)
        return Seen(response)

    async def post(self, path: str, raw: bytes, content_type: str = JSON) -> "Seen":
        headers = {"content-type": content_type}
        return Seen(await self.client.post(path, content=raw, headers=headers))

    def stream(self, path: str = CHAT, **body: Any) -> AbstractAsyncContextManager[httpx.Response]:
        return self.client.stream("POST", path, json=_body({"stream": True, **body}))

    async def get(self, path: str, headers: dict[str, str] | None = None) -> "Seen":
        return Seen(await self.client.get(path, headers=headers))

    async def leaving_client(self, path: str = CHAT, **body: Any) -> "LeavingClient":
        """Send a request over a bare socket, which the test closes when it likes."""
        raw = json.dumps(_body(body)).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        return await self.connect(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)

    async def connect(self, sent: bytes) -> "LeavingClient":
        """Connect and send bytes."""
        host, port = self.gateway.url.removeprefix("http://").split(":")
        client = LeavingClient(*await asyncio.open_connection(host, int(port)))
        client.writer.write(sent)
        await client.writer.drain()
        return client

    @property
    def leg_2s(self) -> list[Received]:
        decodes = [engine for name, engine in self.engines.items() if not name.startswith("p")]
        return [received for engine in decodes for received in engine.received]

    @property
    def leases(self) -> set[str]:
        return set().union(*(engine.leases for engine in self.engines.values()))

    def text(self) -> bytes:
        """Return the metrics, as /metrics does."""
        now = self.dispatcher.snapshot()
        connections = self.gateway.server.connections
        return metrics_text(
            RouterSnapshot(self.metrics.tallies, now.placement, now.workers, False, connections)
        )

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of all samples of metric *name* that have *labels*."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.text().decode())
            for sample in family.samples
            if sample.name == PREFIX + name and labels.items() <= sample.labels.items()
        )

    def is_idle(self) -> bool:
        now = self.dispatcher.snapshot().placement
        counts = [
            count
            for worker in now.workers
            for count in (worker.queued, worker.unprefilled, worker.decoding)
        ]
        running = sum(engine.running for engine in self.engines.values())
        has_leases = bool(self.leases) and not self.keeps_leases
        return now.in_flight == now.queued == sum(counts) == running == 0 and not has_leases

    async def eventually(self, holds: Callable[[], object], seconds: float = 10.0) -> None:
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(0.005)


@dataclass
class LeavingClient:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def leave(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):  # the gateway may have been quicker
            await self.writer.wait_closed()


class Seen:
    """An answer, read to its end."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.body = response.content

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        told = dict(self.json)
        error = told.pop("error")
        assert told in ({}, {"type": "error"})  # OpenAI's shape, and Anthropic's
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["message"], str)
        assert isinstance(error["code"], str)
        return dict(error)

    @property
    def served(self) -> tuple[str | None, ...]:
        names = ("mode", "prefill", "decode", "reason")
        return tuple(self.headers.get(f"x-twofold-{name}") for name in names)

    @property
    def events(self) -> list[Any]:
        """Return the data of the events of a stream: JSON, or the text that is none."""
        assert self.body.endswith(b"\n\n"), self.body[-80:]
        return _events_in(self.body)

    @property
    def said(self) -> str:
        """Return the text of an answer, or of a stream, of chat or completions."""
        return _text_in(self.events if self.body.startswith(b"data: ") else [self.json])

    def said_before(self, piece: bytes) -> str:
        """Return the text of a stream before *piece*."""
        return _text_in(_events_in(self.body.partition(piece)[0]))


@asynccontextmanager
async def _open_cluster(names: str = "p1 p2 d1 d2", **changes: Any) -> AsyncIterator[Cluster]:
    values: dict[str, Any] = {"service": "s", "port": 0, "drain_timeout_seconds": 0.2}
    settings = RouterSettings(**values | changes)
    network: dict[str, FakeEngine] = {}
    metrics = Metrics()
    dispatcher = Dispatcher(
        make_placement(settings.policy, settings.placement()),
        suspect_seconds=settings.suspect_seconds,
        observe=metrics.placement,
    )
    cluster: Cluster | None = None
    failure: Exception | None = None

    async def read_metrics() -> bytes:
        assert cluster is not None
        return cluster.text()

    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        for name in names.split():
            await enter(serve_engine(FakeEngine(make_worker(name, ROLES[name[0]]), network)))
        await enter(running(dispatcher.run()))
        keyring = Keyring(settings.keys_file, settings.classes) if settings.keys_file else None
        admitting = Admitting(settings.classes, keyring, LocalLimiter())
        listener = listen(settings.host, settings.port)
        # Before the gateway, and so closed after it: it sees how that ends.
        client = await enter(httpx.AsyncClient(base_url=url_of(listener), timeout=20.0))
        gateway = await enter(
            open_gateway(settings, dispatcher, admitting, metrics, read_metrics, listener)
        )
        cluster = Cluster(network, dispatcher, metrics, gateway, client)
        cluster.follow(*network)
        try:
            yield cluster
            await cluster.eventually(cluster.is_idle)
        except Exception as error:  # noqa: BLE001 - raised below, where no task group wraps it
            failure = error
    if failure is not None:
        raise failure
    assert not _tasks_of_the_router(), "tasks were left behind"


def _tasks_of_the_router() -> list[str]:
    coroutines = [cast("Coroutine[Any, Any, Any]", task.get_coro()) for task in asyncio.all_tasks()]
    paths = [coroutine.cr_code.co_filename for coroutine in coroutines]  # type: ignore[attr-defined]
    return [path for path in paths if "twofold_router" in path]


def _body(body: dict[str, Any]) -> dict[str, Any]:
    return {"model": MODEL, "messages": HELLO, **body}


def _events_in(body: bytes) -> list[Any]:
    return [_data_of(event) for event in body.split(b"\n\n") if event]


def _text_in(told: list[Any]) -> str:
    choices = [c for data in told if isinstance(data, dict) for c in data.get("choices", ())]
    return "".join(_text_of(choice) for choice in choices)


def _data_of(event: bytes) -> Any:
    *_, line = event.split(b"\n")
    data = line.removeprefix(b"data: ")
    return data.decode() if data == b"[DONE]" else json.loads(data)


def _text_of(choice: dict[str, Any]) -> str:
    says = choice.get("delta") or choice.get("message") or {}
    return choice.get("text") or says.get("content") or ""
