"""A local cluster with a real Valkey server and small stand-ins for pool manager and router."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from twofold_cli.installation import find_valkey
from twofold_cli.processes import descendants, is_alive
from twofold_cli.settings import Settings
from twofold_cli.state import ClusterPhase, ClusterState, StateDirectory

LIMIT_SECONDS = 30.0

POOLS = """
import argparse, asyncio, json, mmap, os, subprocess, sys
import grpc
from twofold_cluster.rpc import pools_pb2, pools_pb2_grpc

parser = argparse.ArgumentParser()
for name in ("service", "redis", "listen", "ray", "log-dir"):
    parser.add_argument("--" + name, required=True)
parser.add_argument("--applied", required=True)
parser.add_argument("--memory")
parser.add_argument("--failing", action="store_true")
parser.add_argument("--refusing", action="store_true")
arguments = parser.parse_args()

if arguments.memory:
    with open(arguments.memory, "wb+") as file:
        file.truncate(4096)
        kept = mmap.mmap(file.fileno(), 4096)

# What a real one has: a process below, in a session of its own, that ignores its parent's end.
below = subprocess.Popen(["sleep", "600"], start_new_session=True)


class Pools(pools_pb2_grpc.PoolsServicer):
    state = pools_pb2.State()
    changed = asyncio.Event()

    async def Apply(self, request, context):
        if arguments.refusing:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a pool has no model")
        with open(arguments.applied, "a") as file:
            pools = [[pool.role, pool.replicas, pool.engine.served_name] for pool in request.pools]
            print(json.dumps({"generation": request.generation, "pools": pools}), file=file)
        asyncio.get_running_loop().create_task(self.start_workers(request))
        return pools_pb2.ApplyReply()

    async def start_workers(self, request):
        phases = [(pools_pb2.PHASE_STARTING, "loading weights", 0)]
        if arguments.failing:
            phases.append((pools_pb2.PHASE_DEAD, "no room for the KV cache", 2))
        else:
            phases.append((pools_pb2.PHASE_READY, "", 0))
        for phase, message, restarts in phases:
            self.state = pools_pb2.State(observed_generation=request.generation, workers=[
                pools_pb2.WorkerStatus(worker_id=f"worker-{pool.role}", role=pool.role,
                    phase=phase, message=message, restarts=restarts)
                for pool in request.pools])
            self.changed.set()
            await asyncio.sleep(0.3)

    async def Get(self, request, context):
        return self.state

    async def Watch(self, request, context):
        while True:
            self.changed.clear()
            yield self.state
            await self.changed.wait()


async def main():
    server = grpc.aio.server()
    pools_pb2_grpc.add_PoolsServicer_to_server(Pools(), server)
    server.add_insecure_port(arguments.listen)
    await server.start()
    await server.wait_for_termination()


asyncio.run(main())
"""

ROUTER = """
import argparse
from aiohttp import web

parser = argparse.ArgumentParser()
for name in ("service", "redis", "host", "port"):
    parser.add_argument("--" + name, required=True)
parser.add_argument("--no-disaggregation", action="store_true")
parser.add_argument("--block-tokens", type=int)
arguments = parser.parse_args()


async def ready(request):
    return web.json_response({"status": "ready", "missing": []})


async def answer(request):
    body = await request.json()
    headers = {"x-twofold-mode": "disaggregated", "x-twofold-prefill": "worker-1",
               "x-twofold-decode": "worker-2", "content-type": "text/event-stream"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    for word in (body["model"], " says ", "Paris"):
        await response.write(
            b'data: {"choices": [{"delta": {"content": "%s"}}]}\\n\\n' % word.encode())
    await response.write(b"data: [DONE]\\n\\n")
    return response


app = web.Application()
app.add_routes([web.get("/ready", ready), web.post("/v1/chat/completions", answer)])
web.run_app(app, host=arguments.host, port=int(arguments.port), print=None)
"""

UP = """
import signal
import sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # as a terminal has it, a background job not
from pathlib import Path
import msgspec
from rich.console import Console
from twofold_cli.errors import CliError
from twofold_cli.settings import Settings
from twofold_cli.starting import up
from twofold_cli.state import StateDirectory

directory, settings, detach = sys.argv[1:]
prepared = msgspec.json.decode(settings, type=Settings)
try:
    up(StateDirectory(Path(directory)), lambda: prepared, detach=detach == "detach",
       console=Console())
except CliError as error:
    sys.exit(f"twofold: {error}")
"""


@dataclass(frozen=True)
class Local:
    """One local cluster to be, and the command ``twofold`` for it."""

    path: Path
    settings: Settings

    @property
    def directory(self) -> StateDirectory:
        return StateDirectory(self.path / "state")

    @property
    def state(self) -> ClusterState:
        state = self.directory.read()
        assert state is not None
        return state

    @property
    def applied(self) -> list[dict[str, Any]]:
        lines = (self.path / "applied").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @contextlib.contextmanager
    def up(self, *, detach: bool = True) -> "Iterator[subprocess.Popen[str]]":
        """Begin what ``twofold up`` does, with these settings."""
        encoded = msgspec.json.encode(self.settings).decode()
        mode = "detach" if detach else "stay"
        with subprocess.Popen(
            [sys.executable, "-c", UP, str(self.path / "state"), encoded, mode],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.kill()  # the block waits for its end; nothing if that was

    def run_up(self) -> "subprocess.CompletedProcess[str]":
        with self.up() as process:
            out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess([], process.returncode, out, err)

    def twofold(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "twofold_cli", *arguments],
            env=os.environ | {"TWOFOLD_STATE_DIR": str(self.path / "state")},
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=60,
            check=False,
        )

    def with_pools(self, *flags: str) -> "Local":
        command = (*self.settings.pools_command, *flags)
        return Local(self.path, msgspec.structs.replace(self.settings, pools_command=command))

    def pid_of(self, component: str) -> int:
        (found,) = (part for part in self.state.components if part.name == component)
        return found.process.pid if found.process is not None else 0


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    pools, router, valkey = tmp_path / "pools.py", tmp_path / "router.py", find_valkey()
    assert valkey is not None
    pools.write_text(textwrap.dedent(POOLS))
    router.write_text(textwrap.dedent(ROUTER))
    settings = Settings(
        model="/models/tiny",
        served_name="tiny",
        device="cpu",
        port=_free_port(),
        valkey_command=(str(valkey),),
        pools_command=(sys.executable, str(pools), "--applied", str(tmp_path / "applied")),
        router_command=(sys.executable, str(router)),
    )
    cluster = Local(tmp_path, settings)
    yield cluster
    cluster.twofold("down")


def test_a_cluster_comes_up_repairs_itself_and_leaves_nothing(local: Local) -> None:
    started = local.run_up()
    assert started.returncode == 0, started.stderr
    assert f"http://127.0.0.1:{local.settings.port}/v1" in started.stdout
    assert "worker-1: starting (loading weights)" in started.stdout
    assert local.applied == [{"generation": 1, "pools": [[1, 1, "tiny"], [2, 1, "tiny"]]}]

    status = local.twofold("status", "--json")
    assert status.returncode == 0, status.stdout
    assert json.loads(status.stdout)["phase"] == "ready"

    second = local.twofold("up")
    assert second.returncode == 1
    assert "already running" in second.stderr
    assert "twofold down" in second.stderr

    redis_url, valkey_pid = local.state.redis_url, local.pid_of("valkey")
    os.kill(valkey_pid, signal.SIGKILL)
    _wait_for(lambda: local.pid_of("valkey") not in (0, valkey_pid))
    _wait_for(lambda: local.state.phase is ClusterPhase.READY)
    assert local.state.redis_url == redis_url
    _ping(redis_url)

    pools_pid = local.pid_of("pool manager")
    below = psutil.Process(pools_pid).children()
    os.kill(pools_pid, signal.SIGKILL)
    _wait_for(lambda: local.pid_of("pool manager") not in (0, pools_pid))
    _wait_for(lambda: local.state.phase is ClusterPhase.READY)
    assert [apply["generation"] for apply in local.applied] == [1, 2]
    assert not any(process.is_running() for process in below)

    _wait_for(lambda: len(local.state.processes) >= 4)  # the one below the pool manager too
    state = local.state
    stopped = local.twofold("down")
    assert (stopped.returncode, stopped.stdout.strip()) == (0, "stopped")
    assert not any(is_alive(process) for process in (state.supervisor, *state.processes))
    assert local.twofold("status").returncode == 3
    assert local.twofold("down").stdout.strip() == "nothing is running"


def test_chat_shows_the_answer_and_which_way_it_went(local: Local) -> None:
    assert local.run_up().returncode == 0

    answer = local.twofold("chat", "What is the capital of France?")

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines() == [
        "tiny says Paris",
        "[mode: disaggregated, prefill: worker-1, decode: worker-2]",
    ]


def test_a_killed_supervisor_takes_its_children_along(local: Local) -> None:
    assert local.run_up().returncode == 0
    state = local.state
    children = [part.process for part in state.components if part.process is not None]
    assert len(children) == 3

    os.kill(state.supervisor.pid, signal.SIGKILL)

    _wait_for(lambda: not any(is_alive(child) for child in children))
    assert local.twofold("status").returncode == 3


def test_the_next_command_ends_what_a_killed_supervisor_could_not(local: Local) -> None:
    assert local.run_up().returncode == 0
    state = local.state
    below = descendants(state.supervisor.pid)  # the one below the pool manager too
    os.kill(state.supervisor.pid, signal.SIGKILL)
    _wait_for(lambda: not is_alive(state.supervisor))

    again = local.run_up()

    assert again.returncode == 0, again.stderr
    assert len(below) == 4
    assert not any(is_alive(process) for process in below)


def test_a_worker_that_keeps_dying_ends_the_start_with_its_reason(local: Local) -> None:
    failed = local.with_pools("--failing").run_up()

    assert failed.returncode == 1
    assert "worker-1 keeps dying: no room for the KV cache" in failed.stderr
    assert not local.directory.is_locked()
    assert local.twofold("status").returncode == 3


def test_a_refusal_by_the_pool_manager_ends_the_start(local: Local) -> None:
    failed = local.with_pools("--refusing").run_up()

    assert failed.returncode == 1
    assert "the pool manager refuses: a pool has no model" in failed.stderr


def test_a_pool_manager_that_cannot_run_ends_the_start_with_its_last_words(local: Local) -> None:
    failed = local.with_pools("--unknown-flag").run_up()

    assert failed.returncode == 1
    assert "the pool manager keeps dying: exit code 2" in failed.stderr
    assert "unrecognized arguments: --unknown-flag" in failed.stderr


def test_an_interrupted_cluster_in_the_foreground_leaves_no_shared_memory(local: Local) -> None:
    memory = Path("/dev/shm") / f"twofold-test-{os.getpid()}"
    cluster = local.with_pools("--memory", str(memory))
    with cluster.up(detach=False) as process:
        _wait_for(lambda: _phase(cluster) is ClusterPhase.READY)
        assert memory.exists()
        state = cluster.state

        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert process.returncode == 0, err
    assert out.rstrip().endswith("stopped")
    assert not any(is_alive(found) for found in state.processes)
    assert not memory.exists()


def _phase(cluster: Local) -> ClusterPhase | None:
    state = cluster.directory.read()
    return None if state is None else state.phase


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def _ping(redis_url: str) -> None:
    host, port = redis_url.removeprefix("redis://").split(":")
    with contextlib.closing(socket.create_connection((host, int(port)), timeout=5)) as connection:
        connection.sendall(b"PING\r\n")
        assert connection.recv(16) == b"+PONG\r\n"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port
