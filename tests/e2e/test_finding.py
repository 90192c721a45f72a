"""Who holds the blocks of a prompt, as a user asks for it, of real engines."""

import json
from typing import Any

import httpx
import pytest

from .conftest import Cluster

pytestmark = pytest.mark.engine

PROMPT = "A prefix that nothing else here begins with: " + "the river runs to the sea, " * 60
"""Some 430 tokens: three full blocks."""


def found(cluster: Cluster, *arguments: str) -> dict[str, Any]:
    # The status is 1 until the directory has heard of each worker.
    told = json.loads(cluster.twofold("kv", "find", *arguments, "--json", check=False).stdout)
    (answer,) = told["revisions"]
    return dict(answer)


def held_by_prefill(found: dict[str, Any]) -> int:
    """Return how many tokens the prefill worker holds of what was asked for."""
    (tokens,) = [s["token_count"] for s in found["shares"] if s["role"] == "prefill"] or [0]
    return int(tokens)


def test_the_prefill_worker_is_found_with_the_full_blocks_of_a_prompt(cluster: Cluster) -> None:
    cluster.until(
        lambda: found(cluster, PROMPT)["silent"] == [],
        seconds=60,
        what="it is known of each worker what it holds",
    )
    before = found(cluster, PROMPT)
    assert before["shares"] == []

    usage = cluster.complete(PROMPT, max_tokens=1).json()["usage"]

    full = usage["prompt_tokens"] // before["block_tokens"] * before["block_tokens"]
    assert before["token_count"] == usage["prompt_tokens"]
    assert full > before["block_tokens"]
    cluster.until(
        lambda: held_by_prefill(found(cluster, PROMPT)) == full,
        seconds=60,
        what="the prefill worker is known to hold all full blocks",
    )


def test_a_conversation_is_found_under_the_names_that_its_template_gives(
    cluster: Cluster,
) -> None:
    body = {"model": "smollm2", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 1}
    answer = httpx.post(f"{cluster.url}/v1/chat/completions", json=body, timeout=60).json()

    asked = found(cluster, PROMPT, "--chat")
    full = asked["token_count"] // asked["block_tokens"] * asked["block_tokens"]
    assert asked["token_count"] == answer["usage"]["prompt_tokens"]
    cluster.until(
        lambda: held_by_prefill(found(cluster, PROMPT, "--chat")) == full,
        seconds=60,
        what="the prefill worker is known to hold all full blocks",
    )
