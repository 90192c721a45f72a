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
from twofold_engine.errors import EngineError
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
    valkey: Any, incarnation: str = "1", *, standby: bool = False, **settings: Any
) -> AsyncIterator[Serving]:
    place = MembershipSettings(
        worker_id=WorkerId("w"),
        service="s",
        incarnation=Incarnation(incarnation),
        redis=url_of(valkey),
        standby=standby,
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


async def test_a_worker_on_standby_says_so_as_soon_as_it_has_answered(valkey: object) -> None:
    async with open_worker(valkey, standby=True) as serving, httpx.AsyncClient() as http:
        first = await announced(valkey, lambda it: it is not None)
        control = f"{serving.url}/twofold/v1/standby"
        states = []
        for standby in (False, True):
            answer = await http.post(control, json={"standby": standby}, timeout=WAIT_SECONDS)
            told = await read_worker(valkey)
            assert answer.status_code == 200
            assert told is not None
            states.append(told.state)
        served = await http.post(
            serving.url + COMPLETIONS, json={"prompt": "Hello"}, timeout=WAIT_SECONDS
        )
        wrong = await http.post(control, json={"standby": "perhaps"})

    assert first is not None
    assert first.state is WorkerState.STANDBY
    assert states == [WorkerState.READY, WorkerState.STANDBY]
    assert served.status_code == 200  # it is the routers who send nothing
    assert wrong.status_code == 400


async def test_a_draining_worker_does_not_come_back_from_standby(valkey: object) -> None:
    async with open_worker(valkey) as serving, httpx.AsyncClient(timeout=WAIT_SECONDS) as http:
        await announced(valkey, lambda it: it is not None)
        await http.post(f"{serving.url}/twofold/v1/drain")
        await http.post(f"{serving.url}/twofold/v1/standby", json={"standby": False})
        told = await read_worker(valkey)

    assert told is not None
    assert told.state is WorkerState.DRAINING


async def test_a_change_that_redis_does_not_take_is_not_confirmed(valkey: Any) -> None:
    async with open_worker(valkey) as serving, httpx.AsyncClient(timeout=WAIT_SECONDS) as http:
        await announced(valkey, lambda it: it is not None)
        valkey.kill()
        untold = await http.post(f"{serving.url}/twofold/v1/standby", json={"standby": True})
        drained = await http.post(f"{serving.url}/twofold/v1/drain")
        refused = await http.post(serving.url + COMPLETIONS, json={"prompt": "Hello"})
        valkey.start()
        told = await announced(valkey, lambda it: it is not None)

    assert untold.status_code == 503
    assert drained.status_code == 200  # it must end in any case
    assert refused.json()["error"]["code"] == "draining"
    assert told is not None
    assert told.state is WorkerState.DRAINING


async def test_adapters_come_and_go_as_with_vllm_and_are_announced(valkey: object) -> None:
    async with open_worker(valkey) as serving, httpx.AsyncClient(timeout=WAIT_SECONDS) as http:

        async def post(path: str, **body: str) -> int:
            return (await http.post(serving.url + path, json=body)).status_code

        async def ask() -> int:
            return await post(COMPLETIONS, prompt="Hello", model="tuned")

        before = await ask()
        order = {"lora_name": "tuned", "lora_path": "/adapters/1"}
        loaded = await post("/v1/load_lora_adapter", **order)
        told = await announced(valkey, lambda it: it is not None and it.adapters == ("tuned",))
        cards = (await http.get(f"{serving.url}/v1/models")).json()["data"]
        during = await ask()
        again = await post("/v1/load_lora_adapter", **order)
        absent = await post("/v1/load_lora_adapter", lora_name="b", lora_path="/missing")
        unloaded = await post("/v1/unload_lora_adapter", lora_name="tuned")
        left = await announced(valkey, lambda it: it is not None and it.adapters == ())
        after = await ask()
        unknown = await post("/v1/unload_lora_adapter", lora_name="tuned")

    assert (before, loaded, during) == (404, 200, 200)
    assert [(card["id"], card["root"], card["parent"]) for card in cards] == [
        ("quick", "quick", None),
        ("tuned", "/adapters/1", "quick"),
    ]
    assert (again, absent, unloaded, after, unknown) == (400, 404, 200, 404, 404)
    assert told is not None
    assert left is not None


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
        await process.stand_by(True)
        on_standby = await read_worker(valkey)
        await process.load_adapter("tuned", "/adapters/1")
        await process.load_adapter("tuned", "/adapters/1")  # the first answer may be lost
        with pytest.raises(EngineError, match="404"):
            await process.load_adapter("other", "/missing")
        tuned = await announced(valkey, lambda it: it is not None and it.adapters == ("tuned",))
        await process.unload_adapter("tuned")
        await process.unload_adapter("tuned")
        await announced(valkey, lambda it: it is not None and it.role is Role.DECODE)
        await process.drain(WAIT_SECONDS)
        await announced(valkey, lambda it: it is not None and it.state is WorkerState.DRAINING)
    finally:
        await process.stop(WAIT_SECONDS)

    assert worker is not None
    assert worker.incarnation == settings.incarnation
    assert worker.address == process.state.address
    assert worker.kv_events.startswith("tcp://127.0.0.1:")
    assert on_standby is not None
    assert on_standby.state is WorkerState.STANDBY
    assert tuned is not None
    assert process.state.message == "ended with status 0"
