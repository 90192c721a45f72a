"""A worker takes a prompt's beginning from another's cache, as a user asks for it."""

import json
from typing import Any

import httpx
import pytest

from .conftest import Cluster

pytestmark = pytest.mark.engine

PROMPT = "A prefix that is pulled ahead of need begins so: " + "the snow lies on the hill, " * 60
"""Some 430 tokens: three full blocks."""

MISSING = "A prefix that nobody has computed begins so: " + "the wind is in the trees, " * 60


def pull(cluster: Cluster, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Return the exit status, and the report."""
    done = cluster.twofold("kv", "pull", *arguments, "--json", check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def name_of(cluster: Cluster, role: str) -> str:
    return str(cluster.worker(role)["worker_id"])


def compute(address: str) -> int:
    """Have the worker at *address* compute ``PROMPT`` alone, and return its tokens."""
    body = {"model": "smollm2", "prompt": PROMPT, "max_tokens": 1}
    answer = httpx.post(f"{address}/v1/completions", json=body, timeout=60).json()
    return int(answer["usage"]["prompt_tokens"])


def held_tokens(cluster: Cluster, role: str) -> int:
    """Return how many of the prompt's tokens the worker of *role* is known to hold."""
    told = json.loads(cluster.twofold("kv", "find", PROMPT, "--json", check=False).stdout)
    (found,) = told["revisions"]
    return max((s["token_count"] for s in found["shares"] if s["role"] == role), default=0)


def test_a_worker_pulls_what_another_holds_and_then_has_it(cluster: Cluster) -> None:
    if cluster.connector != "twofold":
        pytest.skip("this connector pulls no prefixes")
    source, target = name_of(cluster, "prefill"), name_of(cluster, "decode")
    tokens = compute(cluster.address("prefill"))
    cluster.until(
        lambda: held_tokens(cluster, "prefill") > 0,
        seconds=60,
        what="the prefill worker is known to hold the prompt",
    )

    code, first = pull(cluster, PROMPT, "--to", target)
    again_code, again = pull(cluster, PROMPT, "--to", target, "--from", source)
    leases = json.loads(cluster.twofold("kv", "leases", "--json").stdout)["workers"]

    assert (code, again_code) == (0, 0)
    assert (first["source"], first["target"], first["token_count"]) == (source, target, tokens)
    assert first["outcome"] == "pulled"
    assert first["wanted_token_count"] == first["cached_token_count"] > 0
    block_tokens = first["wanted_token_count"] // first["pulled_block_count"]
    assert first["wanted_token_count"] == tokens // block_tokens * block_tokens
    assert (again["outcome"], again["pulled_block_count"]) == ("present", 0)
    assert again["cached_token_count"] == first["cached_token_count"]
    assert sum(worker["promised_count"] + worker["held_count"] for worker in leases) == 0


def test_what_the_source_does_not_hold_is_computed_and_told(cluster: Cluster) -> None:
    if cluster.connector != "twofold":
        pytest.skip("this connector pulls no prefixes")
    source, target = name_of(cluster, "prefill"), name_of(cluster, "decode")

    unnamed = cluster.twofold("kv", "pull", MISSING, "--to", target, check=False)
    code, report = pull(cluster, MISSING, "--to", target, "--from", source, "--chat")

    assert unnamed.returncode == 1
    assert f"no worker that {target} can pull from is known to hold" in unnamed.stderr
    assert code == 1
    assert report["outcome"] == "absent"
    assert report["pulled_block_count"] == 0


def test_workers_with_another_connector_are_refused(cluster: Cluster) -> None:
    if cluster.connector == "twofold":
        pytest.skip("this connector pulls prefixes")
    target = name_of(cluster, "decode")

    done = cluster.twofold("kv", "pull", PROMPT, "--to", target, check=False)

    assert done.returncode == 1
    assert f"{target} has another connector than twofold" in done.stderr


def test_who_cannot_pull_is_told_why(cluster: Cluster) -> None:
    if cluster.connector != "twofold":
        pytest.skip("all workers with another connector are refused alike")
    target = name_of(cluster, "decode")

    unknown = cluster.twofold("kv", "pull", PROMPT, "--to", "x-9", check=False)
    itself = cluster.twofold("kv", "pull", PROMPT, "--to", target, "--from", target, check=False)

    assert (unknown.returncode, itself.returncode) == (1, 2)
    assert f"no worker x-9 is ready; there are: {target}" in unknown.stderr
    assert f"{target} cannot pull out of its own cache" in itself.stderr
