"""``python -m twofold_sim engine`` as a process."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from twofold_sim.live.testing import QUICK

WAIT_SECONDS = 20.0
COMPLETIONS = "/v1/completions"
LEG_1 = {"prompt": "Hello", "max_tokens": 1, "kv_transfer_params": {"do_remote_decode": True}}


@pytest.fixture
def profile(tmp_path: Path) -> str:
    path = tmp_path / "profile.json"
    path.write_bytes(msgspec.json.encode(QUICK))
    return str(path)


@asynccontextmanager
async def running(
    flags: Sequence[str], count: int
) -> AsyncIterator[tuple[asyncio.subprocess.Process, list[str]]]:
    """Run engines, and yield their process and their URLs once they listen."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "twofold_sim", "engine", *flags, stderr=subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        urls: list[str] = []
        async with asyncio.timeout(WAIT_SECONDS):
            while len(urls) < count:
                line = json.loads(await process.stderr.readline())
                if line["message"] == "listening":
                    urls.append(line["url"])
        yield process, urls
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ended(process: asyncio.subprocess.Process) -> int:
    async with asyncio.timeout(WAIT_SECONDS):
        return await process.wait()


async def test_several_engines_in_one_process_end_in_an_orderly_way(profile: str) -> None:
    flags = ["--profile", profile, "--port=0", "--port=0", "--model=m", "--speed=2"]
    async with running(flags, 2) as (process, urls), httpx.AsyncClient() as http:
        for url in urls:
            response = await http.post(url + COMPLETIONS, json={"model": "m", "prompt": "Hello"})
            assert response.status_code == 200
        process.send_signal(signal.SIGTERM)

        assert await ended(process) == 0


async def test_a_crash_ends_the_process_when_it_has_but_one_engine(profile: str) -> None:
    flags = ["--profile", profile, "--port=0", "--fault=crash-after-leg-1"]
    async with running(flags, 1) as (process, urls), httpx.AsyncClient() as http:
        response = await http.post(urls[0] + COMPLETIONS, json=LEG_1)

        assert response.json()["kv_transfer_params"]["do_remote_prefill"] is True
        assert await ended(process) == 70


async def test_a_crash_of_one_of_two_engines_leaves_the_other(profile: str) -> None:
    flags = ["--profile", profile, "--port=0", "--port=0"]
    async with running(flags, 2) as (process, urls), httpx.AsyncClient() as http:
        await http.post(urls[0] + "/sim/faults", json=[{"kind": "crash-before-leg-1"}])
        with pytest.raises(httpx.TransportError):
            await http.post(urls[0] + COMPLETIONS, json=LEG_1)
        with pytest.raises(httpx.ConnectError):
            await http.get(urls[0] + "/health")

        assert (await http.post(urls[1] + COMPLETIONS, json=LEG_1)).status_code == 200
        assert process.returncode is None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--profile=nowhere"], "'nowhere' is no built-in profile"),
        (["--profile=PROFILE", "--speed=0"], "speed must be above 0"),
        (["--profile=PROFILE", "--fault=explode"], "--fault 'explode'"),
        (["--profile=PROFILE", "--host=192.0.2.1"], "cannot listen on 192.0.2.1"),
        (["--profile=PROFILE", "--port=0", "--port=0", "--kv-events"], "are for one engine"),
        (["--profile=PROFILE", "--port=70000"], "port must be 0 to 65535, not 70000"),
        (["--profile=PROFILE", "--max-in-flight=-3"], "max_in_flight must not be negative"),
        (["--profile=PROFILE", "--worker-id=w", "--redis=foo://x"], "must be the URL of a Redis"),
        (["--profile=PROFILE", "--events-fd=77"], "nothing is open at events_fd 77"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(
    profile: str, flags: list[str], said: str
) -> None:
    options = [flag.replace("PROFILE", profile) for flag in flags]
    command = [sys.executable, "-m", "twofold_sim", "engine", *options]
    process = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert process.returncode == 2
    assert process.stderr.startswith("twofold_sim engine: ")
    assert said in process.stderr
    assert process.stderr.count("\n") == 1


TAKEN = "tcp://127.0.0.1:TAKEN"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--kv-events-endpoint", TAKEN], "Address already in use"),
        (["--kv-events-replay-endpoint", TAKEN], "Address already in use"),
        (["--kv-events-endpoint", "nowhere"], "cannot publish KV events at nowhere"),
        (["--kv-events-endpoint", "tcp://127.0.0.1:99999"], "no port is so high"),
    ],
)
def test_kv_events_that_cannot_be_published_end_the_process(
    profile: str, flags: list[str], said: str
) -> None:
    command = [sys.executable, "-m", "twofold_sim", "engine", "--profile", profile, "--kv-events"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command += [flag.replace("TAKEN", port) for flag in flags]
        process = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert process.returncode == 2
    assert process.stderr.startswith("twofold_sim engine: cannot publish KV events at ")
    assert said in process.stderr
    assert process.stderr.count("\n") == 1


def test_a_port_that_the_first_engine_took_ends_the_second_and_the_process(profile: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    flags = ["--profile", profile, "--port", str(port), "--port", str(port)]
    command = [sys.executable, "-m", "twofold_sim", "engine", *flags, "--log-level=warning"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert process.returncode == 2
    assert process.stderr.startswith(f"twofold_sim engine: cannot listen on 127.0.0.1:{port}")
    assert process.stderr.count("\n") == 1
