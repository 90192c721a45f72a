"""Having workers compute prompts, and take the beginning of one from each other."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx

from .lone_workers import ASK_FOR_BLOCKS, Worker, complete, request

BLOCK_TOKENS = 128

SLOW = 1.0
"""Seconds a token, so that pulling is quicker than computing."""


def tokens_of(length: int) -> list[int]:
    """Return text-like token ids, others for each length."""
    return [100 + (7919 * i + 104_729 * length) % 40_000 for i in range(length)]


@contextmanager
def following(worker: Worker, prompt: list[int], source: dict[str, Any]) -> Iterator[None]:
    """Have *worker* follow *source* meanwhile."""
    body = request(prompt, max_tokens=1, kv_transfer_params={"prefix_source": source})

    async def follow() -> None:
        async with httpx.AsyncClient(timeout=None) as client:
            asking = asyncio.ensure_future(
                client.post(f"{worker.address}/v1/completions", json=body)
            )
            await asyncio.to_thread(done.wait)
            asking.cancel()
            await asyncio.wait([asking])
            assert asking.cancelled(), "it was not to be answered"

    done = threading.Event()
    with ThreadPoolExecutor(1) as asker:
        asked = asker.submit(asyncio.run, follow())
        time.sleep(0.5)  # for its way through the tokenizer; if that takes longer, less is followed
        try:
            yield
        finally:
            done.set()
        asked.result()


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def compute(worker: Worker, prompt: list[int]) -> dict[str, Any]:
    """Have *worker* compute *prompt*, and return the params for leg 2."""
    answer = complete(worker.address, prompt, max_tokens=1, kv_transfer_params=ASK_FOR_BLOCKS)
    params: dict[str, Any] = answer["kv_transfer_params"]
    return params


def compute_at(worker: Worker, prompt: list[int]) -> dict[str, Any]:
    """Have *worker* compute *prompt*, and return where its blocks are then."""
    params = compute(worker, prompt)
    return {
        "engine_id": params["remote_engine_id"],
        "host": params["remote_host"],
        "port": params["remote_port"],
        "tensor_parallel": params["tp_size"],
        "seconds_per_token": SLOW,
    }


def leg_1(source: dict[str, Any], tokens: int) -> dict[str, Any]:
    return ASK_FOR_BLOCKS | {"prefix_source": source | {"tokens": tokens}}


def increase(after: dict[str, float], before: dict[str, float], name: str) -> float:
    return after[f"twofold_kv_{name}"] - before.get(f"twofold_kv_{name}", 0.0)
