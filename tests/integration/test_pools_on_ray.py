"""A pool manager that joins a real Ray cluster, and all that it is told while requests come in."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
import msgspec
import psutil
import pytest
import ray.util

from twofold_cluster.rpc import pools_pb2 as pb
from twofold_cluster.rpc.pools_pb2_grpc import PoolsStub
from twofold_sim.live.testing import QUICK

SERVICE = "space.name"
WAIT_SECONDS = 90.0
QUESTION = "Who is there? " * 400
ROLES = {"twofold_prefill": pb.ROLE_PREFILL, "twofold_decode": pb.ROLE_DECODE}


@dataclass
class Pools:
    """What the manager is told, and what it says."""

    stub: PoolsStub
    engine: pb.EngineSpec
    generation: int = 0

    def want(self, *pools: pb.Pool, adapters: dict[str, str] | None = None) -> None:
        self.generation += 1
        wanted = [pb.Adapter(name=n, source=s) for n, s in (adapters or {}).items()]
        request = pb.ApplyRequest(generation=self.generation, pools=pools, adapters=wanted)
        self.stub.Apply(request, timeout=WAIT_SECONDS)

    def revision(
        self, name: str, prefill: int, decode: int, *, standby: bool = False
    ) -> list[pb.Pool]:
        return [
            pb.Pool(
                role=role,
                revision=name,
                replicas=count,
                engine=self.engine,
                standby=standby,
                resources={resource: 1},
            )
            for (resource, role), count in zip(ROLES.items(), (prefill, decode), strict=True)
        ]

    def workers(self) -> list[pb.WorkerStatus]:
        return list(self.stub.Get(pb.GetRequest(), timeout=WAIT_SECONDS).workers)

    def ready(self, revision: str, *, standby: bool = False) -> int:
        """Return how many workers of *revision* are up and known to be on *standby* or not."""
        return sum(
            (w.revision, w.phase, w.standby) == (revision, pb.PHASE_READY, standby)
            for w in self.workers()
        )


@dataclass
class Asking:
    """Somebody who asks all the time."""

    port: int
    answers: list[httpx.Response] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def ask(self, model: str = "quick") -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": QUESTION}]}
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        return httpx.post(url, json=body | {"max_tokens": 4}, timeout=WAIT_SECONDS)

    def run(self) -> None:
        while not self.ended.is_set():
            self.answers.append(self.ask())
            self.ended.wait(0.05)


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)


def free_port() -> int:
    with socket.create_server(("", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture
def directory() -> Iterator[Path]:
    """A path so short that Ray's sockets have room below it."""
    path = Path(tempfile.mkdtemp(prefix="tw-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def running(*words: str, log: Path, **environment: str) -> Iterator["subprocess.Popen[bytes]"]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | environment,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(WAIT_SECONDS)
        finally:
            process.kill()
            process.wait()


def ray_head(directory: Path, port: int) -> list[str]:
    return [
        *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"),
        *(f"--port={port}", f"--ray-client-server-port={free_port()}"),
        *("--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={directory}/ray"),
        *("--num-cpus=4", '--resources={"twofold_prefill": 4, "twofold_decode": 4}'),
        *("--object-store-memory=80000000", "--include-dashboard=false", "--disable-usage-stats"),
    ]


def processes_of(directory: Path) -> list[list[str]]:
    """Return the command lines that name *directory*."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if any(str(directory) in word for word in words):
                found.append(words)
    return found


def test_workers_on_an_existing_ray_cluster_serve_scale_and_are_replaced_without_a_failure(
    directory: Path, valkey: Any
) -> None:
    profile = directory / "quick.json"
    profile.write_bytes(msgspec.json.encode(QUICK))
    engine = pb.EngineSpec(
        model="quick", served_name="quick", cpus=0.1, engine_args=["--profile", str(profile)]
    )
    ray_port, pools_port, router_port = free_port(), free_port(), free_port()
    python = (sys.executable, "-m")
    with contextlib.ExitStack() as stack:
        stack.enter_context(running(*ray_head(directory, ray_port), log=directory / "ray.log"))
        manager = stack.enter_context(
            running(
                *(*python, "twofold_engine.pools", "--service", SERVICE, "--engine", "sim"),
                *("--worker-prefix", "one", "--listen", f"127.0.0.1:{pools_port}"),
                *("--ray", f"{ray.util.get_node_ip_address()}:{ray_port}", "--join"),
                *("--drain-seconds", "30", "--log-dir", str(directory / "logs")),
                log=directory / "pools.log",
                TWOFOLD_REDIS_URL=valkey.url,
            )
        )
        stack.enter_context(
            running(
                *(*python, "twofold_router", "--service", SERVICE, "--port", str(router_port)),
                log=directory / "router.log",
                TWOFOLD_REDIS_URL=valkey.url,
            )
        )
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{pools_port}"))
        grpc.channel_ready_future(channel).result(timeout=WAIT_SECONDS)
        pools = Pools(PoolsStub(channel), engine)
        asking = Asking(router_port)

        check: Callable[..., bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=WAIT_SECONDS) == b"\x08\x01"

        nowhere = pb.Pool(
            role=pb.ROLE_DECODE, revision="x", replicas=1, engine=engine, resources={"nowhere": 1}
        )
        pools.want(*pools.revision("a", 1, 1), nowhere)
        until(lambda: pools.ready("a") == 2)
        (waiting,) = (worker for worker in pools.workers() if worker.revision == "x")
        assert waiting.phase == pb.PHASE_PENDING
        assert {w.node for w in pools.workers() if w.revision == "a"} == {socket.gethostname()}

        def is_disaggregated() -> bool:
            with contextlib.suppress(httpx.TransportError):
                mode: str | None = asking.ask().headers.get("x-twofold-mode")
                return mode == "disaggregated"
            return False

        until(is_disaggregated)
        thread = threading.Thread(target=asking.run)
        thread.start()
        try:
            pools.want(*pools.revision("a", 2, 1))
            until(lambda: pools.ready("a") == 3 and len(pools.workers()) == 3)
            roll_out(pools, before="a", after="b")
            pools.want(*pools.revision("b", 1, 1), adapters={"tuned": "/some/where"})
            until(lambda: all(w.adapters and w.adapters[0].loaded for w in pools.workers()))
            until(lambda: asking.ask("tuned").status_code == 200)
        finally:
            asking.ended.set()
            thread.join()

        assert {answer.status_code for answer in asking.answers} == {200}
        assert all(worker.worker_id.startswith("one-") for worker in pools.workers())
        manager.terminate()
        assert manager.wait(WAIT_SECONDS) == 0
        assert not [words for words in processes_of(directory) if "engine" in words]
    until(lambda: not processes_of(directory))


def roll_out(pools: Pools, before: str, after: str) -> None:
    """Replace a revision by another as an operator does."""
    pools.want(*pools.revision(before, 2, 1), *pools.revision(after, 1, 1, standby=True))
    until(lambda: pools.ready(after, standby=True) == 2)
    pools.want(*pools.revision(before, 2, 1), *pools.revision(after, 1, 1))
    until(lambda: pools.ready(after) == 2)
    pools.want(*pools.revision(before, 2, 1, standby=True), *pools.revision(after, 1, 1))
    until(lambda: pools.ready(before, standby=True) == 3)
    pools.want(*pools.revision(after, 1, 1))
    until(lambda: {worker.revision for worker in pools.workers()} == {after})
