"""A rollout by revision under load, as a router sees it: workers in a real Valkey come up on
standby, take over, and the old ones go. Nobody's request fails."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx
import msgspec

from twofold_cluster.errors import Fault, RequestError
from twofold_cluster.identity import Role
from twofold_cluster.membership import Announcer, connect
from twofold_cluster.worker import Worker, WorkerState
from twofold_router.access import LocalLimiter
from twofold_router.gateway import Admitting, Dispatcher, listen, open_gateway
from twofold_router.http import Request, Responder
from twofold_router.metrics import Metrics
from twofold_router.running import open_dispatcher, open_redis
from twofold_router.settings import RouterSettings
from twofold_router.testing import MODEL, FakeEngine, make_worker, serve_engine

if TYPE_CHECKING:
    from tests.integration.conftest import Valkey

SERVICE = "ns.fake"
CLIENT_COUNT = 4
WAIT_SECONDS = 60.0
ROLES = {"p": Role.PREFILL, "d": Role.DECODE}


class DrainingEngine(FakeEngine):
    """Once closed it refuses what comes, and goes on with what it has."""

    closed = False

    async def handle(self, request: Request, responder: Responder) -> None:
        if self.closed:
            error = RequestError(Fault.DRAINING, "draining")
            responder.send(error.fault.status, (), error.body())
        else:
            await super().handle(request, responder)


class Announced:
    """One worker: an engine that answers, and its entry in Valkey."""

    def __init__(self, engine: DrainingEngine, redis_url: str, lifetime: AsyncExitStack) -> None:
        self.engine = engine
        self._redis_url = redis_url
        self._lifetime = lifetime
        self._announcer: Announcer | None = None

    @property
    def worker_id(self) -> str:
        return self.engine.worker.worker_id

    async def begin(self, state: WorkerState) -> None:
        await self._lifetime.enter_async_context(serve_engine(self.engine))
        redis = await self._lifetime.enter_async_context(connect(self._redis_url))
        worker = msgspec.structs.replace(self.engine.worker, state=state)
        self._announcer = Announcer(redis, worker)
        announcing = asyncio.create_task(self._announcer.run())
        self._lifetime.push_async_callback(_end, announcing)

    def become(self, state: WorkerState) -> None:
        assert self._announcer is not None
        self._announcer.update(msgspec.structs.replace(self._announcer.worker, state=state))

    async def end(self) -> None:
        await self._lifetime.aclose()


@dataclass
class Load:
    """Clients that ask one after another."""

    client: httpx.AsyncClient
    answers: dict[int, httpx.Response] = field(default_factory=dict)
    """By number, in the order in which they came."""
    is_over: bool = False
    serial: "itertools.count[int]" = field(default_factory=itertools.count)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CLIENT_COUNT):
                tasks.create_task(self._ask())

    async def _ask(self) -> None:
        while not self.is_over:
            number = next(self.serial)
            body = {"model": MODEL, "prompt": f"{number} says hello", "stream": True}
            self.answers[number] = await self.client.post("/v1/completions", json=body)

    async def goes_on(self) -> list[int]:
        """Wait until all clients have begun and ended some more requests; return their numbers."""
        now = next(self.serial)

        def begun_since() -> list[int]:
            return [number for number in self.answers if number > now]

        await until(lambda: len(begun_since()) >= 4 * CLIENT_COUNT)
        return begun_since()


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not holds():
            await asyncio.sleep(0.01)


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def opened_router(redis_url: str) -> AsyncIterator[tuple[Dispatcher, str]]:
    settings = RouterSettings(service=SERVICE, redis_url=redis_url, port=0)
    metrics = Metrics()

    async def read_metrics() -> bytes:
        return b""

    async with (
        open_redis(settings) as redis,
        open_dispatcher(settings, redis, metrics) as dispatcher,
        open_gateway(
            settings,
            dispatcher,
            Admitting(settings.classes, None, LocalLimiter()),
            metrics,
            read_metrics,
            listen(settings.host, settings.port),
        ) as gateway,
    ):
        yield dispatcher, gateway.url


def states(workers: Sequence[Worker]) -> dict[str, WorkerState]:
    return {worker.worker_id: worker.state for worker in workers}


async def test_no_request_fails_while_one_revision_takes_over_from_another(
    valkey: "Valkey",
) -> None:
    network: dict[str, FakeEngine] = {}
    async with AsyncExitStack() as stack:

        async def make(revision: str, name: str) -> Announced:
            worker = make_worker(
                f"{revision}-{name}", ROLES[name[0]], service=SERVICE, revision=revision
            )
            lifetime = await stack.enter_async_context(AsyncExitStack())
            return Announced(DrainingEngine(worker, network), valkey.url, lifetime)

        old = [await make("old", name) for name in ("p1", "p2", "d1", "d2")]
        new = [await make("new", name) for name in ("p1", "p2", "d1", "d2")]
        dispatcher, url = await stack.enter_async_context(opened_router(valkey.url))

        def router_knows(workers: list[Announced], state: WorkerState | None) -> bool:
            known = states(dispatcher.workers)
            return all(known.get(each.worker_id) is state for each in workers)

        async def become(workers: list[Announced], state: WorkerState) -> None:
            for each in workers:
                each.become(state)
            await until(lambda: router_knows(workers, state))

        async def drain(workers: list[Announced]) -> None:
            """End *workers* as their manager does."""
            for each in workers:
                each.become(WorkerState.DRAINING)
                each.engine.closed = True
            await until(lambda: not any(each.engine.running for each in workers))
            for each in workers:
                await each.end()

        for each in old:
            await each.begin(WorkerState.READY)
        await until(lambda: router_knows(old, WorkerState.READY))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60.0))
        load = Load(client)
        loading = await stack.enter_async_context(_running(load))
        await load.goes_on()

        for each in new:
            await each.begin(WorkerState.STANDBY)
        await until(lambda: router_knows(new, WorkerState.STANDBY))
        await load.goes_on()
        asked_on_standby = [len(each.engine.received) for each in new]

        await become(new, WorkerState.READY)
        held = old[0].engine
        held.behaviour.gate.clear()
        await until(lambda: held.running)
        answered_before = set(load.answers)
        await become(old, WorkerState.STANDBY)
        asyncio.get_running_loop().call_later(0.05, held.behaviour.gate.set)
        await drain(old[:2])

        def held_back() -> list[httpx.Response]:
            since = [a for number, a in load.answers.items() if number not in answered_before]
            return [a for a in since if a.headers.get("x-twofold-prefill") == held.worker.worker_id]

        await until(held_back)
        await drain(old[2:])
        await until(lambda: router_knows(old, None))
        last = [load.answers[number] for number in await load.goes_on()]
        load.is_over = True
        await loading

    answers = load.answers.values()
    assert {answer.status_code for answer in answers} == {200}
    assert asked_on_standby == [0, 0, 0, 0]
    for answer in answers:
        prefill, decode = (
            answer.headers.get(f"x-twofold-{role}") for role in ("prefill", "decode")
        )
        assert prefill is None or prefill[:3] == decode[:3]
    assert {answer.headers["x-twofold-decode"][:3] for answer in held_back()} == {"old"}
    assert {answer.headers["x-twofold-mode"] for answer in last} == {"disaggregated"}
    assert {answer.headers["x-twofold-decode"][:3] for answer in last} == {"new"}


@asynccontextmanager
async def _running(load: Load) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(load.run())
    try:
        yield task
    finally:
        await _end(task)
