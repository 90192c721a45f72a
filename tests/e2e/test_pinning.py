"""A worker keeps a prompt in its cache, as a user asks for it, while others come and go."""

import json
from typing import Any

import httpx
import pytest

from .conftest import Cluster

pytestmark = pytest.mark.engine

PINNED = "What is asked every day begins so: " + "the clock strikes the hour again, " * 60
UNPINNED = "What is asked only once begins so: " + "the bird flies over the river, " * 60
"""Some 450 tokens each: three full blocks."""

FILLER_TOKENS = 1900
"""Of each prompt that takes room in the cache."""


def compute(cluster: Cluster, prompt: str | list[int]) -> int:
    """Have the prefill worker compute *prompt*; return how much of it was in its cache."""
    body = {"model": "smollm2", "prompt": prompt, "max_tokens": 1}
    url = f"{cluster.address('prefill')}/v1/completions"
    usage = httpx.post(url, json=body, timeout=120).json()["usage"]
    return int((usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0)


def fill(cluster: Cluster, first_token: int) -> None:
    """Have the prefill worker compute as much as its whole cache holds, of prompts that begin with
    *first_token* and those after it."""
    worker = httpx.get(f"{cluster.address('prefill')}/twofold/v1/worker", timeout=10).json()
    for number in range(worker["kv_capacity_tokens"] // FILLER_TOKENS + 1):
        compute(cluster, [first_token + number] * FILLER_TOKENS)


def leases(cluster: Cluster, worker: str) -> dict[str, Any]:
    told = json.loads(cluster.twofold("kv", "leases", "--json").stdout)["workers"]
    (rank,) = (rank for rank in told if rank["worker"] == worker)
    assert isinstance(rank, dict)
    return rank


def test_what_is_pinned_outlives_what_is_not(cluster: Cluster) -> None:
    worker = str(cluster.worker("prefill")["worker_id"])
    if cluster.connector != "twofold":
        done = cluster.twofold("kv", "pin", PINNED, "--on", worker, check=False)
        assert (done.returncode, "another connector" in done.stderr) == (1, True)
        return
    asked = ("kv", "pin", PINNED, "--on", worker, "--seconds", "900", "--json")
    pin = json.loads(cluster.twofold(*asked).stdout)
    compute(cluster, UNPINNED)
    (lease,) = leases(cluster, worker)["leases"]

    fill(cluster, 1000)
    while_pinned = (compute(cluster, UNPINNED), compute(cluster, PINNED))
    used_while_pinned = cluster.metrics(cluster.address("prefill"))["vllm:kv_cache_usage_perc"]
    cluster.twofold("kv", "unpin", pin["request_id"], "--on", worker)
    again = cluster.twofold("kv", "unpin", pin["request_id"], "--on", worker, check=False)

    assert lease["request_id"] == pin["request_id"]
    assert 0 < lease["pinned_seconds"] <= 900
    assert while_pinned[0] == 0
    assert while_pinned[1] > 0.6 * pin["token_count"]
    assert again.returncode == 1
    assert f"no pin of request {pin['request_id']}" in again.stderr
    assert leases(cluster, worker)["leases"] == []
    assert used_while_pinned > 0
    cluster.until_idle()
