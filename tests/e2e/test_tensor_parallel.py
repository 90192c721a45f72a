"""A decode worker with more ranks than the prefill worker takes to each the heads that it needs."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from twofold_cli.directories import cache_directory
from twofold_cli.models import smollm2
from twofold_cli.shared_memory import mapped_files, remove_unmapped
from twofold_engine.environment import free_port

from .conftest import samples_of

HOST = "127.0.0.1"
RANKS = 3
"""SmolLM2-135M has three heads of keys and values: one for each rank."""

LENGTHS = (1, 127, 128, 129, 300, 513)

START_LIMIT_SECONDS = 240.0
STOP_LIMIT_SECONDS = 60.0

ASK_FOR_BLOCKS = {"do_remote_decode": True, "do_remote_prefill": False}

pytestmark = pytest.mark.engine


@dataclass(frozen=True)
class Worker:
    address: str
    process: subprocess.Popen[bytes]


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Start a prefill worker of one rank and a decode worker of three, without a router."""
    logs = tmp_path_factory.mktemp("logs")
    with ExitStack() as stack:
        prefill = stack.enter_context(running("prefill", 1, logs))
        decode = stack.enter_context(running("decode", RANKS, logs))
        wait_until_all_serve({prefill, decode})
        yield prefill.address, decode.address


def test_what_three_ranks_fetched_of_one_continues_as_one_engine_would(
    workers: tuple[str, str],
) -> None:
    prefill, decode = workers
    for length in LENGTHS:
        prompt = [100 + (7919 * i + 104_729 * length) % 40_000 for i in range(length)]
        first = complete(prefill, prompt, max_tokens=1, kv_transfer_params=ASK_FOR_BLOCKS)
        params = first["kv_transfer_params"]
        assert params["tp_size"] == 1

        second = complete(decode, prompt, max_tokens=8, kv_transfer_params=params)
        alone = complete(prefill, prompt, max_tokens=8)

        assert second["choices"][0]["token_ids"] == alone["choices"][0]["token_ids"]

    samples = samples_of(decode)
    transfers = samples["twofold_kv_transfer_seconds_count"]
    assert transfers == len(LENGTHS) * RANKS
    fetched = samples['vllm:prompt_tokens_by_source_total{source="external_kv_transfer"}']
    computed = samples['vllm:prompt_tokens_by_source_total{source="local_compute"}']
    assert fetched >= sum(LENGTHS) - len(LENGTHS), "all but the last token of each prompt"
    assert computed <= len(LENGTHS)
    assert samples_of(prefill)['twofold_kv_leases_ended_total{cause="read"}'] == len(LENGTHS)


def test_fewer_ranks_than_the_prefill_worker_has_are_refused(workers: tuple[str, str]) -> None:
    prefill, decode = workers
    first = complete(decode, [1, 2, 3], max_tokens=1, kv_transfer_params=ASK_FOR_BLOCKS)

    body = request([1, 2, 3], max_tokens=1, kv_transfer_params=first["kv_transfer_params"])
    answer = httpx.post(f"{prefill}/v1/completions", json=body, timeout=60)

    assert answer.status_code == 500
    assert samples_of(prefill)['twofold_kv_transfer_failures_total{reason="link"}'] == 1


@contextmanager
def running(role: str, ranks: int, logs: Path) -> Iterator[Worker]:
    """Run a worker over the tcp transport."""
    file = smollm2.find_file()
    assert file is not None, smollm2.INSTALL
    directory = smollm2.converted_directory(file, cache_directory({}))
    smollm2.convert(file, directory)
    port = free_port(HOST)
    command = [sys.executable, "-m", f"twofold_{role}_worker", "--model", str(directory)]
    command += ["--served-name", "smollm2", "--host", HOST, "--port", str(port), "--threads", "1"]
    command += ["--connector", "twofold", "--transport", "tcp", "--kv-cache-gib", "0.5"]
    command += ["--tensor-parallel", str(ranks)]
    log = logs / f"{role}.log"
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
