"""What the CLI learns of engines over real gRPC, from servers that stand for engines."""

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from twofold_cli.__main__ import app
from twofold_cli.errors import NotRunningError
from twofold_cli.kv import Answer, ask_cluster, ask_leases, ask_peers, ask_workers
from twofold_cli.processes import ProcessId
from twofold_cli.state import ClusterPhase, ClusterState, Phase, StateDirectory, WorkerState
from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.rpc import kvtransfer_pb2 as pb
from twofold_cluster.rpc import kvtransfer_pb2_grpc as rpc
from twofold_cluster.worker import Engine, Worker

LOCALHOST = "127.0.0.1"


class Rank(rpc.KvTransferServicer):
    """A rank of worker p-0, incarnation 1."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    async def Peers(  # noqa: N802
        self, request: pb.PeersRequest, context: Any
    ) -> pb.PeersReply:
        return pb.PeersReply(worker="p-0", incarnation="1", rank=self.rank)

    async def Leases(  # noqa: N802
        self, request: pb.LeasesRequest, context: Any
    ) -> pb.LeasesReply:
        await context.abort(grpc.StatusCode.INTERNAL, "a bug")
        return pb.LeasesReply()

    async def Pin(  # noqa: N802
        self, request: pb.PinLeaseRequest, context: Any
    ) -> pb.PinLeaseReply:
        return pb.PinLeaseReply()

    async def Release(  # noqa: N802
        self, request: pb.ReleaseRequest, context: Any
    ) -> pb.ReleaseReply:
        return pb.ReleaseReply()


@asynccontextmanager
async def serving(rank: int, port: int) -> AsyncIterator[None]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    rpc.add_KvTransferServicer_to_server(Rank(rank), server)
    server.add_insecure_port(f"{LOCALHOST}:{port}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(grace=None)


def worker(kv_transfer: str, *, incarnation: str = "1", tensor_parallel: int = 1) -> Worker:
    return Worker(
        worker_id=WorkerId("p-0"),
        incarnation=Incarnation(incarnation),
        service="local",
        role=Role.PREFILL,
        revision="1",
        address="http://127.0.0.1:1",
        model="m",
        engine=Engine("v", "c", tensor_parallel),
        kv_capacity_tokens=1,
        kv_block_tokens=1,
        max_model_tokens=1,
        kv_transfer=kv_transfer,
    )


@pytest.fixture
def port() -> int:
    """Return the first of two that nobody listens on."""
    for first in range(20_000, 60_000, 2):
        try:
            for port in (first, first + 1):
                socket.create_server((LOCALHOST, port)).close()
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


async def ask(announced: Worker) -> list[Answer]:
    return await ask_workers(["p-0"], {"p-0": announced}, ask_peers)


async def test_each_rank_is_asked_at_a_port_of_its_own(port: int) -> None:
    async with serving(0, port), serving(1, port + 1):
        answers = await ask(worker(f"{LOCALHOST}:{port}", tensor_parallel=2))

    assert answers == [
        Answer("p-0", rank, pb.PeersReply(worker="p-0", incarnation="1", rank=rank))
        for rank in (0, 1)
    ]


async def test_a_rank_that_is_not_there_is_told_of_beside_the_others(port: int) -> None:
    async with serving(0, port):
        there, away = await ask(worker(f"{LOCALHOST}:{port}", tensor_parallel=2))

    assert there.reply is not None
    assert (away.rank, away.reply, away.is_expected) == (1, None, False)
    assert away.problem.startswith(f"no answer from {LOCALHOST}:{port + 1}: ")


async def test_another_incarnation_does_not_speak_for_a_worker(port: int) -> None:
    async with serving(0, port):
        (answer,) = await ask(worker(f"{LOCALHOST}:{port}", incarnation="2"))

    assert answer.problem == f"p-0:1 answers at {LOCALHOST}:{port}"
    assert answer.reply is None


async def test_an_error_of_an_engine_is_told(port: int) -> None:
    async with serving(0, port):
        announced = {"p-0": worker(f"{LOCALHOST}:{port}")}
        (answer,) = await ask_workers([], announced, ask_leases)

    assert answer.problem == f"no answer from {LOCALHOST}:{port}: a bug"


async def test_a_worker_with_another_connector_or_that_is_not_ready_is_not_asked() -> None:
    answers = await ask_workers(["d-0", "p-0"], {"p-0": worker("")}, ask_peers)

    assert answers == [
        Answer("d-0", problem="it is not ready"),
        Answer("p-0", problem="another connector than twofold", is_expected=True),
    ]


@pytest.fixture
def state_path(tmp_path: Path, port: int) -> Iterator[Path]:
    """Return the directory of a cluster whose Redis is away."""
    directory = StateDirectory(tmp_path)
    with directory.locked():
        directory.write(
            ClusterState(
                supervisor=ProcessId(1, 2.0),
                mark="abc",
                service="local",
                model="m",
                served_name="m",
                host=LOCALHOST,
                port=8000,
                redis_url=f"redis://{LOCALHOST}:{port}",
                grpc_address="127.0.0.1:2",
                started_at=3.0,
                phase=ClusterPhase.READY,
                components=(),
                workers=(WorkerState(worker_id="d-0", role=Role.DECODE, phase=Phase.READY),),
            )
        )
        yield tmp_path


@pytest.mark.parametrize("command", ["peers", "leases"])
def test_without_redis_no_worker_is_known(state_path: Path, command: str) -> None:
    environment = {"TWOFOLD_STATE_DIR": str(state_path)}

    shown = CliRunner().invoke(app, ["kv", command], env=environment)
    told = CliRunner().invoke(app, ["kv", command, "--json"], env=environment)

    problem = "Redis does not say where it is"
    assert shown.output == f"d-0: {problem}\n"
    assert json.loads(told.output) == {
        "workers": [{"worker": "d-0", "rank": 0, "problem": problem}]
    }
    assert (shown.exit_code, told.exit_code) == (1, 1)


def test_without_a_cluster_nobody_is_asked(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError):
        ask_cluster(StateDirectory(tmp_path), ask_peers)
