"""A real Ray cluster, and pool managers that are told what to want on it."""

import contextlib
import json
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

import httpx
import msgspec
import psutil

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


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """Yield a directory whose path is so short that Ray's sockets have room below it."""
    path = Path(tempfile.mkdtemp(prefix="tw-", dir="/tmp"))
    try:
        yield path
    finally:
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


def ray_head(directory: Path, port: int, **resources: float) -> list[str]:
    """Return the command of a head with these *resources* beside CPUs."""
    return [
        *(str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"),
        *(f"--port={port}", f"--ray-client-server-port={free_port()}"),
        *("--min-worker-port=0", "--max-worker-port=0", f"--temp-dir={directory}/ray"),
        *("--num-cpus=4", f"--resources={json.dumps(resources)}"),
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


def quick_engine_spec(directory: Path, step_seconds: float = 0.001) -> pb.EngineSpec:
    profile = directory / "quick.json"
    steps = msgspec.structs.replace(QUICK.steps, base_seconds=step_seconds)
    profile.write_bytes(msgspec.json.encode(msgspec.structs.replace(QUICK, steps=steps)))
    return pb.EngineSpec(
        model="quick", served_name="quick", cpus=0.1, engine_args=["--profile", str(profile)]
    )
