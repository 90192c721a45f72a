"""Workers with real engines, without a router: requests go to each as a test says."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from twofold_cli.directories import cache_directory
from twofold_cli.models import smollm2
from twofold_cli.shared_memory import mapped_files, remove_unmapped
from twofold_engine.environment import free_port

HOST = "127.0.0.1"

START_LIMIT_SECONDS = 600.0
"""Engines of three ranks start beside each other, on two cores that others may use too."""
STOP_LIMIT_SECONDS = 60.0

ASK_FOR_BLOCKS = {"do_remote_decode": True, "do_remote_prefill": False}


@dataclass(frozen=True)
class Worker:
    address: str
    process: subprocess.Popen[bytes]


@contextmanager
def running(
    role: str,
    logs: Path,
    *engine_args: str,
    ranks: int = 1,
    kv_cache_gib: float = 0.5,
    compression: str = "off",
    name: str = "",
) -> Iterator[Worker]:
    """Run a worker with our connector over the tcp transport."""
    file = smollm2.find_file()
    assert file is not None, smollm2.INSTALL
    directory = smollm2.converted_directory(file, cache_directory({}))
    smollm2.convert(file, directory)
    port = free_port(HOST)
    command = [sys.executable, "-m", f"twofold_{role}_worker", "--model", str(directory)]
    command += ["--served-name", "smollm2", "--host", HOST, "--port", str(port), "--threads", "1"]
    command += ["--connector", "twofold", "--transport", "tcp", "--kv-cache-gib", str(kv_cache_gib)]
    command += ["--compression", compression, "--tensor-parallel", str(ranks), "--", *engine_args]
    log = logs / f"{name or role}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield Worker(f"http://{HOST}:{port}", process)
        below = psutil.Process(process.pid).children(recursive=True)
        shared_memory = mapped_files(each.pid for each in below)
        process.terminate()
        process.wait(STOP_LIMIT_SECONDS)
        assert not psutil.wait_procs(below, timeout=STOP_LIMIT_SECONDS)[1]
        remove_unmapped(shared_memory)  # vLLM leaves that of several ranks on a CPU
    except BaseException:
        print(log.read_text(errors="replace")[-4000:])
        raise
    finally:
        if process.poll() is None:
            for each in psutil.Process(process.pid).children(recursive=True):
                each.kill()
            process.kill()
            process.wait()


def wait_until_all_serve(workers: set[Worker]) -> None:
    deadline = time.monotonic() + START_LIMIT_SECONDS
    while workers:
        assert all(worker.process.poll() is None for worker in workers), "a worker has ended"
        assert time.monotonic() < deadline, f"{workers} do not serve"
        time.sleep(0.5)
        workers = {worker for worker in workers if not serves(worker.address)}


def serves(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def request(prompt: list[int], **fields: Any) -> dict[str, Any]:
    return {"model": "smollm2", "prompt": prompt, "temperature": 0, **fields}


def complete(address: str, prompt: list[int], **fields: Any) -> dict[str, Any]:
    body = request(prompt, return_token_ids=True, **fields)
    answer = httpx.post(f"{address}/v1/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    decoded: dict[str, Any] = answer.json()
    return decoded
