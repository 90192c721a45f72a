"""A service on engines without a model under load and in trouble, and a Prometheus that reads it.

Labels are those of a service ``qwen`` in a namespace ``team``, as Kubernetes would set them.
"""

import asyncio
import contextlib
import importlib.util
import itertools
import json
import math
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
from prometheus_client import CollectorRegistry, start_http_server

from twofold_cluster.identity import Role, WorkerId
from twofold_cluster.worker import Worker
from twofold_engine.feeding import feed_directory
from twofold_operator.operating.metrics import OperatorMetrics
from twofold_router.access.key_file import KeyEntry
from twofold_router.access.minting import hash_of, new_key, render_entry
from twofold_sim.live.serving import Serving, open_engine
from twofold_sim.live.settings import KvEventSettings, MembershipSettings
from twofold_sim.live.testing import quick_engine

SERVICE = "team.qwen"
CHAT = "/v1/chat/completions"
CONNECTOR = Path(__file__).with_name("connector_page.py")
HAS_VLLM = importlib.util.find_spec("vllm") is not None
START_SECONDS = 60.0
STREAMS = 3
"""At a time."""

_ROLES = {"p": Role.PREFILL, "d": Role.DECODE}
_STORY = "The quick brown fox jumps over the lazy dog. "


@dataclass(frozen=True, slots=True)
class Series:
    """What Prometheus answers to an instant query."""

    status: str
    error: str
    values: list[float]

    @property
    def says_something(self) -> bool:
        return any(math.isfinite(value) for value in self.values)


class Prometheus:
    """A real server, asked over HTTP."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def query(self, expression: str) -> Series:
        response = await self._http.post("/api/v1/query", data={"query": expression})
        body = response.json()
        found = body.get("data", {}).get("result", [])
        values = [float(each["value"][1]) for each in found]
        return Series(body["status"], body.get("error", ""), values)

    async def rules(self) -> list[dict[str, Any]]:
        groups = (await self._http.get("/api/v1/rules")).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def is_ready(self) -> bool:
        try:
            return (await self._http.get("/-/ready")).status_code == 200
        except httpx.TransportError:
            return False


class WatchedCluster:
    """Sends load and makes trouble until it is left."""

    def __init__(
        self, router: httpx.AsyncClient, engines: dict[str, Serving], prometheus: Prometheus
    ) -> None:
        self.prometheus = prometheus
        self._router = router
        self._engines = engines

    async def load(self) -> None:
        """Ask again and again; a third of what is asked was asked before."""
        for number in itertools.count():
            questions = [f"{number // 3}.{one} {_STORY * 40}" for one in range(STREAMS)]
            await asyncio.gather(*(self._ask(question) for question in questions))
            await self._ask("one piece", stream=False)
            await asyncio.sleep(0.1)

    async def trouble(self) -> None:
        """Break something of each kind, again and again."""
        while True:
            await self._order("p1", kind="refuse", status=500, count=2)
            await self._order("p2", kind="refuse", status=500, count=2)
            await self._order("p1", kind="drop-lease", count=1)
            await self._order("p2", kind="drop-lease", count=1)
            await self._order("d1", kind="cut", after_chunks=3, count=1)
            await self._ask("unknown", model="stranger")
            await asyncio.sleep(0.5)
            for name in ("d1", "d2"):
                await self._order(name, kind="refuse", count=2)
            await asyncio.sleep(0.5)

    async def _order(self, name: str, **fault: Any) -> None:
        async with httpx.AsyncClient(timeout=START_SECONDS) as http:
            await http.post(f"{self._engines[name].url}/sim/faults", json=[fault])

    async def _ask(self, question: str, **fields: Any) -> None:
        messages = [{"role": "user", "content": question}]
        body = {"model": "quick", "messages": messages, "max_tokens": 20, "stream": True}
        with contextlib.suppress(httpx.TransportError):
            await self._router.post(CHAT, json=body | fields)


@asynccontextmanager
async def watched_cluster(
    directory: Path, redis: str, rules: Path
) -> AsyncIterator[WatchedCluster]:
    """Start everything, wait until Prometheus and the router serve, and make load and trouble."""
    key = new_key()
    keys = directory / "keys.toml"
    keys.write_text(render_entry(KeyEntry(name="test", hash=hash_of(key), tenant="tests")))
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        engines = {name: await enter(_engine(name, redis)) for name in ("p1", "p2", "d1", "d2")}
        port = free_port()
        stack.enter_context(_process(*_router_command(redis, port, keys)))
        url = f"http://127.0.0.1:{port}"
        client = httpx.AsyncClient(
            base_url=url,
            timeout=START_SECONDS,
            headers={"authorization": f"Bearer {key}", "x-llm-d-slo-ttft-ms": "60000"},
        )
        router = await enter(client)
        await until(lambda: _knows(router, len(engines)))
        await _lose_a_worker(redis, router, len(engines))
        keys.write_text(keys.read_text() + "\n# The same keys, in a file that has changed.\n")
        feed_ports = {name: await enter(_feed(redis, serving)) for name, serving in engines.items()}
        if HAS_VLLM:
            feed_ports["d3"] = free_port()
            stack.enter_context(_process(sys.executable, str(CONNECTOR), str(feed_ports["d3"])))
        operator_port = stack.enter_context(_operator())
        prometheus_port = free_port()
        config = directory / "prometheus.yaml"
        config.write_text(json.dumps(_config(port, operator_port, feed_ports, rules)))
        stack.enter_context(_process(*_prometheus_command(directory, config, prometheus_port)))
        http = await enter(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{prometheus_port}", timeout=START_SECONDS)
        )
        prometheus = Prometheus(http)
        await until(prometheus.is_ready)
        cluster = WatchedCluster(router, engines, prometheus)
        tasks = [asyncio.create_task(cluster.load()), asyncio.create_task(cluster.trouble())]
        try:
            yield cluster
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends


async def until(holds: Callable[[], Any], seconds: float = START_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not await holds():
            await asyncio.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _engine(name: str, redis: str) -> contextlib.AbstractAsyncContextManager[Serving]:
    place = MembershipSettings(worker_id=WorkerId(name), service=SERVICE, redis=redis)
    settings = quick_engine(
        membership=place, role=_ROLES[name[0]], kv_events=KvEventSettings(), lease_seconds=2.0
    )
    return open_engine(settings)


@asynccontextmanager
async def _feed(redis: str, serving: Serving) -> AsyncIterator[int]:
    """Tell the block directory what an engine holds, as a worker with vLLM does, and serve the
    metrics of it, which there are on the engine's own page."""
    async with httpx.AsyncClient(timeout=START_SECONDS) as http:
        described = await http.get(f"{serving.url}/twofold/v1/worker")
    worker = msgspec.json.decode(described.content, type=Worker)
    registry = CollectorRegistry()
    feeding = asyncio.create_task(feed_directory(redis, worker, registry=registry))
    try:
        with _page(registry) as port:
            yield port
    finally:
        feeding.cancel()
        await asyncio.wait([feeding])


async def _lose_a_worker(redis: str, router: httpx.AsyncClient, others: int) -> None:
    """Have the router know a worker that serves another model, and kill that."""
    command = [sys.executable, "-m", "twofold_sim", "engine", "--profile", "smollm2-cpu"]
    command += ["--model", "other", "--redis", redis, "--service", SERVICE, "--worker-id", "lost"]
    with _process(*command):
        await until(lambda: _knows(router, others + 1))
    await until(lambda: _counts(router, "twofold_router_worker_losses_total{"))


async def _knows(router: httpx.AsyncClient, count: int) -> bool:
    samples = await _samples(router, "twofold_router_workers{")
    return sum(samples) == count


async def _counts(router: httpx.AsyncClient, beginning: str) -> bool:
    return any(await _samples(router, beginning))


async def _samples(router: httpx.AsyncClient, beginning: str) -> list[float]:
    try:
        page = (await router.get("/metrics")).text
    except httpx.TransportError:
        return []
    lines = [line for line in page.splitlines() if line.startswith(beginning)]
    return [float(line.rpartition(" ")[2]) for line in lines]


@contextmanager
def _operator() -> Iterator[int]:
    """Serve what an operator tells of itself, without a cluster."""
    metrics = OperatorMetrics()
    metrics.leader.set(1)
    metrics.follow("queue_depth", "Of tests.", lambda: 0.0)

    def reconcile() -> float:
        """Be busy whenever Prometheus looks."""
        metrics.reconciliations.labels("settled").inc()
        metrics.seconds.observe(0.1)
        metrics.errors.labels("ApiError").inc()
        metrics.count_request("patch", "services", 200)
        return 0.0

    metrics.follow("lag_seconds", "Of tests.", reconcile)
    with _page(metrics.registry) as port:
        yield port


@contextmanager
def _page(registry: CollectorRegistry) -> Iterator[int]:
    server, thread = start_http_server(0, "127.0.0.1", registry)
    assert isinstance(thread, threading.Thread)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def _process(*command: str) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _router_command(redis: str, port: int, keys: Path) -> Iterable[str]:
    yield from (sys.executable, "-m", "twofold_router", "--service", SERVICE, "--redis", redis)
    yield from ("--port", str(port), "--processes", "2", "--min-uncached-tokens", "1")
    yield from ("--keys-file", str(keys))
    yield from ("--class", "default:tpot=60")


def _prometheus_command(directory: Path, config: Path, port: int) -> Iterable[str]:
    yield from ("prometheus", f"--config.file={config}", "--log.level=error")
    yield f"--storage.tsdb.path={directory / 'series'}"
    yield f"--web.listen-address=127.0.0.1:{port}"


def _config(
    router_port: int, operator_port: int, feed_ports: Mapping[str, int], rules: Path
) -> dict[str, Any]:
    router = f"127.0.0.1:{router_port}"
    labels = {"namespace": "team", "service": "qwen"}
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [
            {"job_name": "routers", "static_configs": [{"targets": [router], "labels": labels}]},
            {
                "job_name": "workers",
                "http_sd_configs": [
                    {"url": f"http://{router}/metrics/targets", "refresh_interval": "1s"}
                ],
            },
            {
                "job_name": "feeds",
                "static_configs": [
                    {"targets": [f"127.0.0.1:{feed_port}"], "labels": labels | {"worker": name}}
                    for name, feed_port in feed_ports.items()
                ],
            },
            {
                "job_name": "operator",
                "static_configs": [{"targets": [f"127.0.0.1:{operator_port}"]}],
            },
        ],
    }
