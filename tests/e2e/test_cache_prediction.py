"""What the router expects to be cached is what the engines find, evictions included."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import httpx
import pytest

from twofold_cli.directories import state_directory
from twofold_cli.state import StateDirectory, running_cluster
from twofold_cli.status import read_announced
from twofold_router.access import Classes, LocalLimiter
from twofold_router.gateway import Admitting, listen, open_gateway
from twofold_router.metrics import Metrics
from twofold_router.placement import Dispatch, PromptUsage
from twofold_router.running import open_dispatcher
from twofold_router.settings import RouterSettings
from twofold_router.static_workers import parse_worker_flags

from .conftest import Cluster

pytestmark = pytest.mark.engine

BLOCK_TOKENS = 128

CONVERSATIONS = 30
TURNS = 5
WORDS_PER_TURN = 200
"""Together some 33,000 tokens, for a cache of 23,000."""

WORDS = ["river", "mountain", "paper", "window", "garden", "silver", "morning", "letter"]


class Prompt(NamedTuple):
    """One prompt, in tokens."""

    predicted: float
    reported: int
    length: int


class RecordingMetrics(Metrics):
    """Keeps what was predicted and what was reported, request by request, and counts what was heard
    of KV events."""

    def __init__(self) -> None:
        super().__init__()
        self.prompts: list[Prompt] = []
        self.happenings: Counter[str] = Counter()

    def kv_events(self, what: str) -> None:
        super().kv_events(what)
        self.happenings[what] += 1

    def prompt(self, dispatch: Dispatch, usage: PromptUsage) -> None:
        super().prompt(dispatch, usage)
        assert usage.cached_tokens is not None
        prompt = Prompt(dispatch.cached_tokens, usage.cached_tokens, usage.prompt_tokens)
        self.prompts.append(prompt)


@pytest.mark.parametrize("follows_events", [False, True], ids=["usage", "events"])
async def test_the_cached_tokens_of_a_multi_turn_workload_are_predicted_within_a_block(
    cluster: Cluster, follows_events: bool
) -> None:
    metrics = RecordingMetrics()
    turns = conversations(seed=7 + follows_events)
    flags = await worker_flags(cluster, follows_events)
    async with router_before(flags, metrics) as url, httpx.AsyncClient(timeout=120) as client:
        for turn in turns:
            body = {"model": "smollm2", "messages": turn.messages, "max_tokens": 2}
            response = await client.post(f"{url}/v1/chat/completions", json=body)

            assert response.status_code == 200, response.text
            assert response.headers["x-twofold-mode"] == "disaggregated"

    assert (metrics.happenings["batch"] >= len(turns)) == follows_events
    assert not metrics.happenings["loss"]
    prompts = metrics.prompts
    assert len(prompts) == len(turns)
    close = [abs(prompt.predicted - prompt.reported) <= BLOCK_TOKENS for prompt in prompts]
    assert sum(close) >= 0.95 * len(prompts), prompts
    # Otherwise nothing was shown: prefixes have to be found again, and others to be evicted.
    found, evicted = found_and_evicted(turns, prompts)
    assert found > len(turns) / 3
    assert evicted >= 3


def found_and_evicted(turns: list["Turn"], prompts: list[Prompt]) -> tuple[int, int]:
    """Count the prompts whose earlier turn was still cached, and those where it was not."""
    before: dict[int, int] = {}
    found = evicted = 0
    for turn, prompt in zip(turns, prompts, strict=True):
        known_tokens = before.get(turn.conversation, 0)
        if known_tokens > 2 * BLOCK_TOKENS:
            was_found = prompt.reported >= known_tokens - 2 * BLOCK_TOKENS
            found += was_found
            evicted += not was_found
        before[turn.conversation] = prompt.length
    return found, evicted


async def worker_flags(cluster: Cluster, follows_events: bool) -> list[str]:
    """Return what a router is told of the engines of *cluster*."""
    state = running_cluster(StateDirectory(state_directory(cluster.env)))
    workers = await read_announced(state) or {}
    flags = []
    for worker in workers.values():
        flag = f"{worker.role}={worker.address}"
        if follows_events:
            flag += f",kv-events={worker.kv_events},kv-events-replay={worker.kv_events_replay}"
        flags.append(flag)
    assert len(flags) == 2
    return flags


@asynccontextmanager
async def router_before(flags: list[str], metrics: Metrics) -> AsyncIterator[str]:
    """Run a router of its own before the engines that *flags* name."""
    settings = RouterSettings(workers=parse_worker_flags(flags), port=0, block_tokens=64)
    async with AsyncExitStack() as stack:
        dispatcher = await stack.enter_async_context(open_dispatcher(settings, None, metrics))
        admitting = Admitting(Classes(), None, LocalLimiter())
        gateway = await stack.enter_async_context(
            open_gateway(
                settings, dispatcher, admitting, metrics, _no_metrics, listen("127.0.0.1", 0)
            )
        )
        async with asyncio.timeout(30):
            while len(dispatcher.workers) < len(flags):
                await asyncio.sleep(0.1)
        yield gateway.url


class Turn(NamedTuple):
    """All messages of a conversation up to one of the user's."""

    conversation: int
    messages: list[dict[str, str]]


def conversations(seed: int) -> list[Turn]:
    """Return all turns of all conversations, in an order that mixes them."""
    chance = random.Random(seed)
    order = [number for number in range(CONVERSATIONS) for _ in range(TURNS)]
    chance.shuffle(order)
    turns: list[Turn] = []
    said: dict[int, list[dict[str, str]]] = {}
    for number in order:
        messages = said.setdefault(number, [])
        if messages:
            messages.append({"role": "assistant", "content": "I see."})
        words = " ".join(chance.choice(WORDS) for _ in range(WORDS_PER_TURN))
        messages.append({"role": "user", "content": f"{number}: {words}"})
        turns.append(Turn(number, list(messages)))
    return turns


async def _no_metrics() -> bytes:
    return b""
