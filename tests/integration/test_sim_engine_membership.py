"""An engine without a model as a worker: announced in a real Valkey, drained, steered, fenced."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.membership import FencedError, connect, read_workers
from twofold_cluster.worker import Worker, WorkerState
from twofold_engine.events import Step
from twofold_engine.settings import WorkerSettings
from twofold_engine.simulated import MODULE, sim_argv
from twofold_engine.supervising import WorkerProcess
from twofold_sim.live.gate import GateLimits
from twofold_sim.live.serving import Serving, open_engine
from twofold_sim.live.settings import MembershipSettings
from twofold_sim.live.testing import QUICK, quick_engine

WAIT_SECONDS = 20.0
COMPLETIONS = "/v1/completions"


def url_of(valkey: Any) -> str:
    url: str = valkey.url
    return url


@asynccontextmanager
async def open_worker(
    valkey: Any, incarnation: str = "1", **settings: Any
) -> AsyncIterator[Serving]:
    place = MembershipSettings(
        worker_id=WorkerId("w"),
        service="s",
        incarnation=Incarnation(incarnation),
        redis=url_of(valkey),
    )
    async with open_engine(quick_engine(membership=place, **settings)) as serving:
        yield serving


async def read_worker(valkey: Any) -> Worker | None:
    async with connect(url_of(valkey)) as redis:
        workers = await read_workers(redis, "s")
    return workers[0] if workers else None


async def announced(valkey: Any, is_so: Callable[[Worker | None], bool]) -> Worker | None:
    """Wait until what is announced is so, and return it."""
    async with asyncio.timeout(WAIT_SECONDS):
        while not is_so(worker := await read_worker(valkey)):
            await asyncio.sleep(0.02)
    return worker


async def test_a_worker_is_announced_with_all_that_a_router_needs_and_withdraws(
    valkey: object,
) -> None:
    async with open_worker(valkey, role=Role.PREFILL) as serving:
        worker = await announced(valkey, lambda worker: worker is not None)
    left = await announced(valkey, lambda worker: worker is None)

    assert worker is not None
    assert (worker.address, worker.model, worker.role) == (serving.url, "quick", Role.PREFILL)
    assert worker.kv_capacity_tokens == QUICK.kv_capacity_tokens
    assert worker.kv_block_tokens == QUICK.block_tokens
    assert left is None


async def test_its_load_is_announced_as_it_changes(valkey: object) -> None:
    async with open_worker(valkey) as serving, httpx.AsyncClient(timeout=WAIT_SECONDS) as http:
        body = {"prompt": "Hello " * 500, "max_tokens": 3000, "ignore_eos": True}
        asking = asyncio.create_task(http.post(serving.url + COMPLETIONS, json=body))
        busy = await announced(valkey, lambda it: it is not None and it.load.running_count == 1)
        asking.cancel()
        idle = await announced(valkey, lambda it: it is not None and it.load.running_count == 0)

    assert busy is not None
    assert busy.load.kv_used_fraction > 0
    assert idle is not None
    assert idle.load.kv_used_fraction == 0
    assert idle.load.seconds_per_prefill_token is not None


async def test_a_drained_worker_says_so_refuses_and_is_busy_until_it_has_ended(
    valkey: object,
) -> None:
    async with open_worker(valkey) as serving, httpx.AsyncClient(timeout=WAIT_SECONDS) as http:
        await http.post(serving.url + COMPLETIONS, json={"prompt": "Hello"})
        control = f"{serving.url}/twofold/v1"
        leg_1 = {"prompt": "Hello", "kv_transfer_params": {"do_remote_decode": True}}
        await http.post(serving.url + COMPLETIONS, json=leg_1)
        drained = msgspec.json.decode((await http.post(f"{control}/drain")).content, type=Worker)
        told = await announced(
            valkey, lambda it: it is not None and it.state is WorkerState.DRAINING
        )
        refused = await http.post(serving.url + COMPLETIONS, json={"prompt": "Hello"})
        is_busy = (await http.get(f"{control}/busy")).json()

    assert drained.state is WorkerState.DRAINING
    assert told is not None
    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "draining"
    assert is_busy == {"busy": True}


async def test_a_worker_takes_another_role_and_refuses_as_that_does(valkey: object) -> None:
    limits = GateLimits(max_unprefilled=0, max_in_flight=64)
    worker = open_worker(valkey, role=Role.PREFILL, limits=limits)
    async with worker as serving, httpx.AsyncClient() as http:
        refused = await http.post(serving.url + COMPLETIONS, json={"prompt": "Hello"})
        await http.post(f"{serving.url}/twofold/v1/role", json={"role": "decode"})
        told = await announced(valkey, lambda it: it is not None and it.role is Role.DECODE)
        served = await http.post(serving.url + COMPLETIONS, json={"prompt": "Hello"})
        wrong = await http.post(f"{serving.url}/twofold/v1/role", json={"role": "spare"})

    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "prefill_busy")
    assert refused.headers["retry-after"] == "1"
    assert told is not None
    assert served.status_code == 200
    assert wrong.status_code == 400


async def test_a_newer_incarnation_ends_the_older_one(valkey: object) -> None:
    async def serve_both() -> None:
        async with open_worker(valkey, "1"):
            await announced(valkey, lambda it: it is not None and it.incarnation == "1")
            async with open_worker(valkey, "2"):
                await asyncio.get_running_loop().create_future()

    with pytest.raises(ExceptionGroup) as raised:
        await serve_both()

    assert raised.group_contains(FencedError)


async def test_the_engines_supervisor_starts_drains_and_stops_it(
    valkey: object, tmp_path: Path
) -> None:
    profile = tmp_path / "profile.json"
    profile.write_bytes(msgspec.json.encode(QUICK))
    settings = WorkerSettings(
        service="s",
        worker_id=WorkerId("w"),
        role=Role.PREFILL,
        model="quick",
        served_name="quick",
        redis=url_of(valkey),
        kv_events=True,
        engine_args=("--profile", str(profile)),
    )
    process = WorkerProcess(settings, MODULE, tmp_path, sim_argv)
    await process.start()
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while process.state.step is not Step.READY:
                assert not process.state.ended, process.state
                await asyncio.sleep(0.02)
        worker = await announced(valkey, lambda it: it is not None)
        await process.change_role(Role.DECODE)
        await announced(valkey, lambda it: it is not None and it.role is Role.DECODE)
        await process.drain(WAIT_SECONDS)
        await announced(valkey, lambda it: it is not None and it.state is WorkerState.DRAINING)
    finally:
        await process.stop(WAIT_SECONDS)

    assert worker is not None
    assert worker.incarnation == settings.incarnation
    assert worker.address == process.state.address
    assert worker.kv_events.startswith("tcp://127.0.0.1:")
    assert process.state.message == "ended with status 0"
