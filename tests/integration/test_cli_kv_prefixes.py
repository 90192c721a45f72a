"""What a user has one worker do with a prompt, from a membership in a real Valkey and a worker that
is played."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tests.unit.engine.prefixes.workers import P0, a_worker
from typer.testing import CliRunner, Result

from twofold_cli.__main__ import app
from twofold_cli.processes import ProcessId
from twofold_cli.state import ClusterPhase, ClusterState, StateDirectory
from twofold_cluster.membership import connect
from twofold_cluster.membership.entries import announce
from twofold_cluster.rpc import kvtransfer_pb2 as pb
from twofold_cluster.rpc import kvtransfer_pb2_grpc as rpc

if TYPE_CHECKING:
    from tests.integration.conftest import Valkey

LOCALHOST = "127.0.0.1"


class Prefixes(rpc.PrefixesServicer):
    """Does what it is asked; it has one pin, ``r1``."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def Find(self, request: pb.FindRequest, context: Any) -> pb.FindReply:  # noqa: N802
        return pb.FindReply()

    async def Pull(self, request: pb.PullRequest, context: Any) -> pb.PullReply:  # noqa: N802
        self.asked.append(request)
        return pb.PullReply(
            source="d-0",
            outcome=pb.PULL_OUTCOME_SLOWER,
            token_count=70,
            wanted_token_count=64,
            cached_token_count=16,
        )

    async def Pin(self, request: pb.PinRequest, context: Any) -> pb.PinReply:  # noqa: N802
        self.asked.append(request)
        return pb.PinReply(request_id="r1", token_count=70, left_seconds=request.seconds)

    async def Unpin(self, request: pb.UnpinRequest, context: Any) -> pb.UnpinReply:  # noqa: N802
        if request.request_id != "r1":
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no pin of {request.request_id}")
        return pb.UnpinReply()

    async def Drain(self, request: pb.DrainRequest, context: Any) -> pb.DrainReply:  # noqa: N802
        return pb.DrainReply()


@asynccontextmanager
async def announced(url: str, *, kv_transfer: str | None = None) -> AsyncIterator[Prefixes]:
    """Announce worker p-0, with its service at the port after that of its only rank."""
    service = Prefixes()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    rpc.add_PrefixesServicer_to_server(service, server)
    port = server.add_insecure_port(f"{LOCALHOST}:0")
    await server.start()
    address = f"{LOCALHOST}:{port - 1}" if kv_transfer is None else kv_transfer
    try:
        async with connect(url) as redis:
            await announce(redis, a_worker(P0, kv_transfer=address), ttl_seconds=60.0)
        yield service
    finally:
        await server.stop(grace=None)


@pytest.fixture
def environment(tmp_path: Path, valkey: "Valkey") -> Iterator[dict[str, str]]:
    """Return the environment of a user whose cluster stands in Valkey."""
    directory = StateDirectory(tmp_path / "state")
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
                redis_url=valkey.url,
                grpc_address="127.0.0.1:2",
                started_at=3.0,
                phase=ClusterPhase.READY,
                components=(),
                workers=(),
            )
        )
        yield {"TWOFOLD_STATE_DIR": str(tmp_path / "state")}


async def run(environment: dict[str, str], *arguments: str) -> Result:
    return await asyncio.to_thread(
        lambda: CliRunner().invoke(app, ["kv", *arguments], env=environment)
    )


async def test_a_pin_is_asked_for_as_a_client_would_ask_and_ended_by_its_name(
    valkey: "Valkey", environment: dict[str, str]
) -> None:
    async with announced(valkey.url) as service:
        told = await run(environment, "pin", "Hi", "--on", "p-0", "--seconds", "60", "--json")
        ended = await run(environment, "unpin", "r1", "--on", "p-0")
        unknown = await run(environment, "unpin", "r2", "--on", "p-0")

    assert service.asked == [pb.PinRequest(request='{"prompt":"Hi"}', seconds=60.0)]
    assert json.loads(told.output)["request_id"] == "r1"
    assert (told.exit_code, ended.exit_code, unknown.exit_code) == (0, 0, 1)
    assert str(unknown.exception) == "p-0: no pin of r2"


async def test_what_a_pull_has_come_to_is_told(
    valkey: "Valkey", environment: dict[str, str]
) -> None:
    async with announced(valkey.url) as service:
        named = await run(environment, "pull", "Hi", "--to", "p-0", "--from", "d-0", "--chat")
        told = await run(environment, "pull", "Hi", "--to", "p-0", "--json")

    assert [asked.source_worker for asked in service.asked] == ["d-0", ""]
    assert json.loads(service.asked[0].request)["messages"][0]["content"] == "Hi"
    assert named.output.startswith("p-0 has pulled nothing from d-0 (slower)")
    assert json.loads(told.output)["outcome"] == "slower"
    assert (named.exit_code, told.exit_code) == (1, 1)


async def test_a_worker_that_cannot_be_asked_is_named(
    valkey: "Valkey", environment: dict[str, str]
) -> None:
    async with announced(valkey.url, kv_transfer=""):
        nobody = await run(environment, "pin", "Hi", "--on", "x-9")
        other = await run(environment, "pin", "Hi", "--on", "p-0")
    async with announced(valkey.url):
        pass
    gone = await run(environment, "pull", "Hi", "--to", "p-0")

    assert str(nobody.exception) == "no worker x-9 is ready; there are: p-0"
    assert str(other.exception) == "p-0 has another connector than twofold"
    assert str(gone.exception).startswith("p-0: ")
    assert gone.exit_code == 1
