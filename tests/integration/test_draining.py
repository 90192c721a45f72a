"""A machine with workers that is to go: what Kubernetes runs in a pod before it ends it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from twofold_cluster.identity import Role, WorkerId
from twofold_cluster.membership import connect, read_workers
from twofold_cluster.worker import WorkerState
from twofold_engine.draining.addresses import read_addresses
from twofold_engine.draining.managers import managers_ended, managing
from twofold_engine.events import Step
from twofold_engine.settings import WorkerSettings
from twofold_engine.simulated import MODULE, sim_argv
from twofold_engine.supervising import WorkerProcess
from twofold_sim.live.testing import QUICK
from twofold_sim.profiles import StepCosts

SLOW = msgspec.structs.replace(QUICK, steps=StepCosts(base_seconds=0.01, per_prefill_token=1e-6))
"""A token each hundredth of a second."""

WAIT_SECONDS = 30.0
COMPLETIONS = "/v1/completions"


@asynccontextmanager
async def a_worker(directory: Path, redis: str | None = None) -> AsyncIterator[WorkerProcess]:
    profile = directory / "profile.json"
    profile.write_bytes(msgspec.json.encode(SLOW))
    settings = WorkerSettings(
        service="s",
        worker_id=WorkerId("w"),
        role=Role.DECODE,
        model="quick",
        served_name="quick",
        redis=redis,
        engine_args=("--profile", str(profile)),
    )
    process = WorkerProcess(settings, MODULE, directory, sim_argv)
    await process.start()
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while process.state.step is not Step.READY:
                assert not process.state.ended, process.state
                await asyncio.sleep(0.02)
        yield process
    finally:
        await process.stop(limit_seconds=5)


async def drained(directory: Path, limit_seconds: float) -> tuple[int, str]:
    """Run the command; return its status and what it wrote."""
    words = ("-m", "twofold_engine.draining", "--log-dir", str(directory))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *words, f"--limit-seconds={limit_seconds}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(WAIT_SECONDS):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


@asynccontextmanager
async def a_stream(address: str, token_count: int) -> AsyncIterator[AsyncIterator[str]]:
    """Ask for a stream; it is being generated once this is entered."""
    body = {"prompt": "Hello", "max_tokens": token_count, "ignore_eos": True, "stream": True}
    async with (
        httpx.AsyncClient(timeout=WAIT_SECONDS) as http,
        http.stream("POST", address + COMPLETIONS, json=body) as response,
    ):
        lines = response.aiter_lines()
        await anext(lines)
        yield lines


async def test_a_stream_ends_whole_before_its_machine_may_go(tmp_path: Path, valkey: Any) -> None:
    async with a_worker(tmp_path, valkey.url) as process, connect(valkey.url) as redis:
        async with a_stream(process.state.address, 400) as lines:
            draining = asyncio.create_task(drained(tmp_path, WAIT_SECONDS))
            ended_at = [(line, draining.done()) async for line in lines if line]
        status, output = await draining
        (worker,) = await read_workers(redis, "s")
        async with httpx.AsyncClient() as http:
            refused = await http.post(process.state.address + COMPLETIONS, json={"prompt": "x"})

    assert ended_at[-1] == ("data: [DONE]", False)
    assert (status, output) == (0, "")
    assert worker.state is WorkerState.DRAINING
    assert refused.status_code == 503


async def test_who_still_has_work_at_the_limit_is_named(tmp_path: Path, valkey: Any) -> None:
    async with (
        a_worker(tmp_path, valkey.url) as process,
        a_stream(process.state.address, 6000),
    ):
        status, output = await drained(tmp_path, limit_seconds=1)

    assert status == 1
    assert "still busy after 1 s: w" in output


async def test_nobody_waits_for_a_worker_that_has_ended(tmp_path: Path, valkey: Any) -> None:
    async with a_worker(tmp_path, valkey.url) as process:
        before = read_addresses(tmp_path)
        address = process.state.address
    after = read_addresses(tmp_path)
    (tmp_path / "killed.address").write_text(address)  # its supervisor could not remove it

    status, output = await drained(tmp_path, WAIT_SECONDS)

    assert (before, after) == ({"w": address}, {})
    assert status == 0
    assert "cannot drain" in output


async def test_ray_is_kept_until_no_manager_needs_it(tmp_path: Path) -> None:
    with managing(tmp_path):
        with managing(tmp_path):  # another service's
            late = await drained(tmp_path, limit_seconds=0.5)
        waiting = asyncio.create_task(managers_ended(tmp_path))
        still, _ = await asyncio.wait([waiting], timeout=0.5)
    async with asyncio.timeout(WAIT_SECONDS):
        await waiting

    assert late[0] == 1
    assert "still busy after 0.5 s: the pool manager" in late[1]
    assert not still


PLAYED_RAY = """
def init(**_):
    raise ConnectionError("not yet")

def shutdown():
    pass
"""


async def test_a_manager_that_waits_for_ray_ends_when_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ray.py").write_text(PLAYED_RAY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    words = ("-m", "twofold_engine.pools", "--service=s", "--redis=redis://nowhere")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *words, "--ray=nowhere:1", f"--log-dir={tmp_path}"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(WAIT_SECONDS):
        while b"waiting for Ray" not in (line := await process.stderr.readline()):
            assert line, "it ended"
        gone = asyncio.create_task(managers_ended(tmp_path))
        still, _ = await asyncio.wait([gone], timeout=0.5)
        process.terminate()
        status = await process.wait()
        await gone

    assert status == 0
    assert not still


@pytest.mark.parametrize("name", [".", "missing"])
async def test_a_machine_without_workers_may_go_at_once(tmp_path: Path, name: str) -> None:
    assert await drained(tmp_path / name, WAIT_SECONDS) == (0, "")
