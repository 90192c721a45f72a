"""Workers on a real Ray cluster outlive the pool managers that launch, take over and end them."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil
import pytest
import ray.util

from twofold_cluster.rpc import pools_pb2 as pb
from twofold_cluster.rpc.pools_pb2_grpc import PoolsStub

from .ray_pools import (
    SERVICE,
    WAIT_SECONDS,
    Pools,
    free_port,
    quick_engine_spec,
    ray_head,
    running,
    short_directory,
    until,
)

STEP_SECONDS = 0.003
LONG_ANSWER_TOKENS = 5000
"""A quarter of a minute for one request: longer than a manager takes to start."""

A_FEW_ROUNDS_SECONDS = 1.5


@dataclass
class Life:
    """One manager's process, and what it is asked."""

    process: "subprocess.Popen[bytes]"
    pools: Pools

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_SECONDS)

    def ended(self) -> int:
        return self.process.wait(WAIT_SECONDS)

    def pids(self) -> dict[str, int]:
        return {w.worker_id: w.pid for w in self.pools.workers() if w.phase == pb.PHASE_READY}

    def phase(self, worker_id: str) -> int | None:
        return next((w.phase for w in self.pools.workers() if w.worker_id == worker_id), None)


class Managers:
    """Begins managers on one Ray cluster; what is left of them ends with the stack."""

    def __init__(self, stack: contextlib.ExitStack, directory: Path, ray: str, redis: str) -> None:
        self._stack = stack
        self._directory = directory
        self._ray = ray
        self._redis = redis
        self._count = 0

    def begin(self, prefix: str, *options: str) -> Life:
        self._count += 1
        port = free_port()
        process = self._stack.enter_context(
            running(
                *(sys.executable, "-m", "twofold_engine.pools", "--service", SERVICE),
                *("--engine", "sim", "--worker-prefix", prefix, "--ray", self._ray),
                *("--listen", f"127.0.0.1:{port}", "--log-dir", str(self._directory / "logs")),
                *options,
                log=self._directory / f"pools-{self._count}.log",
                TWOFOLD_REDIS_URL=self._redis,
            )
        )
        channel = self._stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))
        engine = quick_engine_spec(self._directory, STEP_SECONDS)
        return Life(process, Pools(PoolsStub(channel), engine))


def answers(life: Life) -> Life:
    """Wait until the manager answers."""

    def is_up() -> bool:
        assert life.process.poll() is None, life.process.returncode
        with contextlib.suppress(grpc.RpcError):
            life.pools.workers()
            return True
        return False

    until(is_up)
    return life


class LongRequest(threading.Thread):
    """A request that is served for a while. ``status``: of its answer, when it has ended."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._url = f"http://127.0.0.1:{port}/v1/completions"
        self.status: int | None = None

    def run(self) -> None:
        body = {"model": "quick", "prompt": "Tell me all.", "max_tokens": LONG_ANSWER_TOKENS}
        body["ignore_eos"] = True
        self.status = httpx.post(self._url, json=body, timeout=WAIT_SECONDS).status_code


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    with contextlib.ExitStack() as stack:
        yield stack


def pool(life: Life, role: Any, resource: str, replicas: int = 1) -> pb.Pool:
    return pb.Pool(
        role=role,
        revision="a",
        replicas=replicas,
        engine=life.pools.engine,
        resources={resource: 1},
    )


def has(life: Life, worker_id: str, phase: int | None) -> Callable[[], bool]:
    return lambda: life.phase(worker_id) == phase


def test_workers_outlive_their_managers_and_not_their_use(
    stack: contextlib.ExitStack, valkey: Any
) -> None:
    directory = stack.enter_context(short_directory())
    ray_port, router_port = free_port(), free_port()
    # No place but those that are wanted, so that one which is not given back is missed.
    places = {"twofold_prefill": 1, "twofold_decode": 2, "single": 1}
    head = ray_head(directory, ray_port, **places)
    stack.enter_context(running(*head, log=directory / "ray.log"))
    router = (sys.executable, "-m", "twofold_router", "--service", SERVICE)
    stack.enter_context(
        running(
            *(*router, "--port", str(router_port)),
            log=directory / "router.log",
            TWOFOLD_REDIS_URL=valkey.url,
        )
    )
    address = f"{ray.util.get_node_ip_address()}:{ray_port}"
    managers = Managers(stack, directory, address, valkey.url)

    # Two managers, one of which has a prefix that begins as the other's does.
    first = managers.begin("one")
    other = managers.begin("one-more", "--orphan-seconds", "5")
    answers(first)
    answers(other)

    def wanted(life: Life) -> list[pb.Pool]:
        return [
            pool(life, pb.ROLE_PREFILL, "twofold_prefill"),
            pool(life, pb.ROLE_DECODE, "twofold_decode"),
            # Not before the other manager's worker has given its place back.
            pool(life, pb.ROLE_BOTH, "single"),
        ]

    other.pools.want(pool(other, pb.ROLE_DECODE, "single"))
    until(lambda: len(other.pids()) == 1)
    first.pools.want(*wanted(first))
    until(lambda: len(first.pids()) == 2)
    assert first.phase("one-both-0") == pb.PHASE_PENDING
    before = first.pids()

    # One worker drains, with a request that goes on, and one waits for a place.
    until(lambda: is_served(router_port))
    request = LongRequest(router_port)
    request.start()
    until(lambda: is_busy(first, "one-decode-0"))
    first.pools.stub.Drain(pb.DrainRequest(worker_id="one-decode-0", limit_seconds=60))
    until(has(first, "one-decode-0", pb.PHASE_DRAINING))
    first.kill()

    second = answers(managers.begin("one", "--leave-workers"))
    assert second.pids().get("one-prefill-0") == before["one-prefill-0"]
    assert second.phase("one-decode-0") == pb.PHASE_DRAINING
    assert second.phase("one-both-0") is None
    time.sleep(A_FEW_ROUNDS_SECONDS)
    assert second.phase("one-prefill-0") == pb.PHASE_READY
    second.pools.want(*wanted(second))
    until(has(second, "one-both-0", pb.PHASE_PENDING))
    until(has(second, "one-decode-0", None))
    request.join(WAIT_SECONDS)
    assert request.status == 200
    until(has(second, "one-decode-1", pb.PHASE_READY))
    pids = second.pids()
    assert pids["one-prefill-0"] == before["one-prefill-0"]
    assert len(other.pids()) == 1

    # Two managers of the same workers: the later one has them.
    third = answers(managers.begin("one", "--leave-workers"))
    assert second.ended() == 1
    assert third.pids() == pids

    # Told to end, it leaves them; a manager that is killed and not replaced does not for long.
    third.pools.want(*wanted(third))
    until(has(third, "one-both-0", pb.PHASE_PENDING))
    (orphan,) = other.pids().values()
    other.kill()
    third.process.send_signal(signal.SIGTERM)
    assert third.ended() == 0
    assert all(map(lives, pids.values()))
    until(lambda: not lives(orphan))

    # What ends while there is no manager leaves a place, which the next one gives back.
    psutil.Process(psutil.Process(pids["one-prefill-0"]).ppid()).kill()
    until(lambda: not lives(pids["one-prefill-0"]))
    fourth = answers(managers.begin("one", "--leave-workers", "--drain-seconds", "20"))
    assert fourth.pids() == {"one-decode-1": pids["one-decode-1"]}
    fourth.pools.want(*wanted(fourth))
    until(has(fourth, "one-both-0", pb.PHASE_READY))
    until(has(fourth, "one-prefill-0", pb.PHASE_READY))

    # Whatever nobody wants any more ends with its manager.
    every = fourth.pids().values()
    fourth.pools.want()
    fourth.process.send_signal(signal.SIGTERM)
    assert fourth.ended() == 0
    assert not any(map(lives, every))


def lives(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def is_served(port: int) -> bool:
    body = {"model": "quick", "prompt": "Who is there?", "max_tokens": 1}
    with contextlib.suppress(httpx.TransportError):
        url = f"http://127.0.0.1:{port}/v1/completions"
        return httpx.post(url, json=body, timeout=WAIT_SECONDS).status_code == 200
    return False


def is_busy(life: Life, worker_id: str) -> bool:
    (address,) = (w.address for w in life.pools.workers() if w.worker_id == worker_id)
    answer = httpx.get(f"{address}/twofold/v1/busy", timeout=WAIT_SECONDS)
    return bool(answer.json()["busy"])
