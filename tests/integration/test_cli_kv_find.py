"""Who holds a prompt's blocks, from a directory in a real Valkey and workers that name them."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from typer.testing import CliRunner, Result

from twofold_cli.__main__ import app
from twofold_cli.processes import ProcessId
from twofold_cli.state import ClusterPhase, ClusterState, StateDirectory
from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.membership import connect
from twofold_cluster.membership.entries import announce
from twofold_cluster.worker import Engine, Worker
from twofold_kvtransfer.directory import Directory, Position, Rebuild

if TYPE_CHECKING:
    from tests.integration.conftest import Valkey

LOCALHOST = "127.0.0.1"
BLOCKS = [number.to_bytes(8, "big") for number in range(1, 5)]
CHAIN = {"token_count": 70, "block_tokens": 16, "blocks": [block.hex() for block in BLOCKS]}
EVENTS = "tcp://127.0.0.1:1"


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


@asynccontextmanager
async def naming(answer: dict[str, Any], status: int = 200) -> AsyncIterator[tuple[str, list[Any]]]:
    """Serve *answer* as a worker does that is asked for a chain; yield its address, and what it was
    asked."""
    asked: list[Any] = []

    async def chain(request: web.Request) -> web.Response:
        asked.append(await request.json())
        return web.json_response(answer, status=status)

    application = web.Application()
    application.router.add_post("/twofold/v1/chain", chain)
    runner = web.AppRunner(application, shutdown_timeout=0.05)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOCALHOST, 0).start()
        yield f"http://{LOCALHOST}:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


async def put(
    url: str,
    name: str,
    address: str,
    *,
    kv_events: str = EVENTS,
    held: int | None = None,
    revision: str = "1",
) -> None:
    """Announce a worker, which holds the first *held* blocks; None: the directory has no entry."""
    worker = Worker(
        worker_id=WorkerId(name),
        incarnation=Incarnation("1"),
        service="local",
        role=Role.PREFILL if name.startswith("p") else Role.DECODE,
        revision=revision,
        address=address,
        model="m",
        engine=Engine("v", "c"),
        kv_capacity_tokens=1,
        kv_block_tokens=16,
        max_model_tokens=1,
        kv_events=kv_events,
    )
    async with connect(url) as redis:
        await announce(redis, worker, ttl_seconds=60.0)
        if held is not None:
            await hold(url, name, held)


async def hold(url: str, name: str, held: int, *, degrades: bool = False) -> None:
    stored = tuple(("GPU", block) for block in BLOCKS[:held])
    entry = Rebuild(
        worker_id=WorkerId(name),
        incarnation=Incarnation("1"),
        position=Position(1.0, 0),
        token="t",
        is_first_part=True,
        is_last_part=True,
        degrades=degrades,
        stored=stored,
    )
    async with connect(url) as redis:
        await Directory(redis, "local").apply(entry)


async def run(environment: dict[str, str], *arguments: str) -> Result:
    return await asyncio.to_thread(
        lambda: CliRunner().invoke(app, ["kv", "find", *arguments], env=environment)
    )


async def test_the_workers_that_hold_a_prompt_are_shown(
    valkey: "Valkey", environment: dict[str, str]
) -> None:
    async with naming(CHAIN) as (address, asked):
        await put(valkey.url, "p-0", address, held=4)
        await put(valkey.url, "d-0", address, held=2)
        await hold(valkey.url, "gone", 4)
        shown = await run(environment, "Hello")
        told = await run(environment, "Hello", "--json", "--chat", "--model", "tuned")

    _, first, second = [" ".join(line.split()) for line in shown.output.splitlines()]
    assert first == "p-0 prefill 64 of 70 91 % GPU"
    assert second == "d-0 decode 32 of 70 45 % GPU"
    (revision,) = json.loads(told.output)["revisions"]
    shares = revision["shares"]
    assert [(share["worker"], share["token_count"]) for share in shares] == [
        ("p-0", 64),
        ("d-0", 32),
    ]
    assert (shown.exit_code, told.exit_code) == (0, 0)
    assert asked == [
        {"prompt": "Hello"},
        {"messages": [{"role": "user", "content": "Hello"}], "model": "tuned"},
    ]


async def test_a_worker_that_does_not_name_blocks_is_passed_over(
    valkey: "Valkey", environment: dict[str, str]
) -> None:
    async with naming({}, status=404) as (without, _), naming(CHAIN) as (address, asked):
        await put(valkey.url, "a-0", without, held=0)
        await put(valkey.url, "p-0", address, held=0)
        shown = await run(environment, "Hello")

    assert asked == [{"prompt": "Hello"}]
    assert shown.output == ("no worker is known to hold the first 16 of the prompt's 70 tokens\n")
    assert shown.exit_code == 0


async def test_a_worker_of_which_not_all_is_listed_is_told_of(
    valkey: "Valkey", environment: dict[str, str]
) -> None:
    async with naming(CHAIN) as (address, _):
        await put(valkey.url, "p-0", address, held=0)
        await put(valkey.url, "d-0", address)
        await hold(valkey.url, "d-0", 0, degrades=True)
        await put(valkey.url, "d-1", address)
        shown = await run(environment, "Hello")

    assert shown.output.splitlines()[-2:] == [
        "d-0: what it holds is not listed",
        "d-1: what it holds is not listed",
    ]
    assert shown.exit_code == 1


async def test_each_revision_is_asked_for_its_own_names_and_shown_apart(
    valkey: "Valkey", environment: dict[str, str]
) -> None:
    names = [block.hex() for block in BLOCKS[:2]]
    other = {"token_count": 65, "block_tokens": 32, "blocks": names}
    async with naming(CHAIN) as (old, _), naming(other) as (new, _):
        await put(valkey.url, "p-0", old, held=4)
        await put(valkey.url, "p-1", new, held=4, revision="2")
        shown = await run(environment, "Hello")

    told = [" ".join(line.split()) for line in shown.output.splitlines()]
    assert told[0] == "revision 1:"
    assert told[2:4] == ["p-0 prefill 64 of 70 91 % GPU", "revision 2:"]
    assert told[5:] == ["p-1 prefill 64 of 65 98 % GPU"]
    assert shown.exit_code == 0


async def test_a_revision_whose_workers_name_nothing_leaves_the_others_to_be_found(
    valkey: "Valkey", environment: dict[str, str]
) -> None:
    async with naming(CHAIN) as (old, _), naming({}, status=503) as (new, _):
        await put(valkey.url, "p-0", old, held=4)
        await put(valkey.url, "p-1", new, held=4, revision="2")
        shown = await run(environment, "Hello")

    told = [" ".join(line.split()) for line in shown.output.splitlines()]
    assert "p-0 prefill 64 of 70 91 % GPU" in told
    assert "p-1 does not name the prompt's blocks: 503: {}" in told
    assert shown.exit_code == 1


async def test_a_worker_without_events_is_told_of(
    valkey: "Valkey", environment: dict[str, str]
) -> None:
    async with naming(CHAIN) as (address, _):
        await put(valkey.url, "d-0", "http://127.0.0.1:1", kv_events="")
        await put(valkey.url, "p-0", address, held=1)
        shown = await run(environment, "Hello")

    assert shown.output.splitlines()[-1] == "d-0: what it holds is not listed"
    assert shown.exit_code == 1


async def test_what_hinders_is_told_to_the_user(
    valkey: "Valkey", environment: dict[str, str]
) -> None:
    nobody = await run(environment, "Hello")
    await put(valkey.url, "d-0", "http://127.0.0.1:1", kv_events="")
    silent = await run(environment, "Hello")
    async with naming({"error": {"message": "too long"}}, status=400) as (address, _):
        await put(valkey.url, "p-0", address)
        refused = await run(environment, "Hello")
    valkey.kill()
    away = await run(environment, "Hello")

    assert "no worker is ready" in str(nobody.exception)
    assert "start the cluster with --kv-events" in str(silent.exception)
    assert "p-0 does not name the prompt's blocks: 400" in str(refused.exception)
    assert "too long" in str(refused.exception)
    assert "Redis does not say" in str(away.exception)
