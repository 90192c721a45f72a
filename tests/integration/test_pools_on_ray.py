"""A pool manager that joins a real Ray cluster, and all that it is told while requests come in."""

import contextlib
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import ray.util

from twofold_cluster.rpc import pools_pb2 as pb
from twofold_cluster.rpc.pools_pb2_grpc import PoolsStub

from .ray_pools import (
    ROLES,
    SERVICE,
    WAIT_SECONDS,
    Asking,
    Pools,
    free_port,
    processes_of,
    quick_engine_spec,
    ray_head,
    running,
    short_directory,
    until,
)


@pytest.fixture
def directory() -> Iterator[Path]:
    with short_directory() as path:
        yield path


def test_workers_on_an_existing_ray_cluster_serve_scale_and_are_replaced_without_a_failure(
    directory: Path, valkey: Any
) -> None:
    engine = quick_engine_spec(directory)
    ray_port, pools_port, router_port = free_port(), free_port(), free_port()
    python = (sys.executable, "-m")
    places = dict.fromkeys(ROLES, 4)
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            running(*ray_head(directory, ray_port, **places), log=directory / "ray.log")
        )
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
        refused = pb.Pool(role=pb.ROLE_PREFILL, revision="y", replicas=1, engine=engine)
        refused.engine.gpus = 1.5
        pools.want(*pools.revision("a", 1, 1), nowhere, refused)
        until(lambda: pools.ready("a") == 2)
        until(lambda: any("whole numbers" in w.message and w.restarts for w in pools.workers()))
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
