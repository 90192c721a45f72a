"""What an engine without a model tells of its cache, followed by the router's own follower."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.kv_events import (
    AllBlocksCleared,
    BlockHash,
    BlockRemoved,
    BlockStored,
    KvEvent,
)
from twofold_cluster.worker import Engine, Worker
from twofold_router.kv_events import Followers
from twofold_router.placement.accounts import Life
from twofold_router.placement.interface import BlocksChange
from twofold_sim.live.blocks import Keeping, block_ids
from twofold_sim.live.kv_encoding import Encoding
from twofold_sim.live.serving import Serving, open_engine
from twofold_sim.live.settings import KvEventSettings
from twofold_sim.live.testing import QUICK, quick_engine
from twofold_sim.live.tokens import tokenize

WAIT_SECONDS = 10.0
LONG = "The quick brown fox jumps over the lazy dog. " * 40


class Mirror:
    """The cache as the events tell of it."""

    def __init__(self) -> None:
        self.blocks: set[BlockHash] = set()
        self.events: list[KvEvent] = []
        self.others: list[BlocksChange] = []
        self.happenings: list[str] = []
        self._told = asyncio.Event()

    def blocks_changed(self, life: Life, change: BlocksChange) -> None:
        if isinstance(change, str):
            self.others.append(change)
            return
        for event in change:
            self.events.append(event)
            if isinstance(event, BlockStored):
                self.blocks |= set(event.block_hashes)
            elif isinstance(event, BlockRemoved):
                self.blocks -= set(event.block_hashes)
            else:
                self.blocks.clear()
        self._told.set()

    async def until_it_has(self, blocks: set[int]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not self.blocks >= blocks:
                self._told.clear()
                await self._told.wait()


@contextlib.asynccontextmanager
async def following(serving: Serving, mirror: Mirror) -> AsyncIterator[None]:
    publisher = serving.engine.publisher
    assert publisher is not None
    worker = Worker(
        worker_id=WorkerId("w"),
        incarnation=Incarnation("1"),
        service="s",
        role=Role.PREFILL,
        revision="1",
        address=serving.url,
        model="quick",
        engine=Engine(version="sim", compatibility="c"),
        kv_capacity_tokens=QUICK.kv_capacity_tokens,
        kv_block_tokens=QUICK.block_tokens,
        max_model_tokens=QUICK.max_model_tokens,
        kv_events=publisher.endpoint,
        kv_events_replay=publisher.replay_endpoint,
    )
    followers = Followers(mirror.blocks_changed, mirror.happenings.append)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(followers.run())
        followers.follow((worker,), ())
        try:
            yield
        finally:
            running.cancel()


async def complete(serving: Serving, prompt: str, **more: Any) -> None:
    async with httpx.AsyncClient(base_url=serving.url, timeout=WAIT_SECONDS) as http:
        response = await http.post("/v1/completions", json={"prompt": prompt, **more})
        assert response.status_code == 200, response.text


def ids(prompt: str, **keeping: str) -> set[int]:
    return set(block_ids(tokenize(prompt), QUICK.block_tokens, Keeping("quick", **keeping)))


@pytest.mark.parametrize("encoding", ["array", "map"])
async def test_a_follower_knows_what_is_cached_in_either_encoding(encoding: Encoding) -> None:
    mirror = Mirror()
    settings = quick_engine(kv_events=KvEventSettings(encoding=encoding), adapters=("a",))
    async with open_engine(settings) as serving, following(serving, mirror):
        await complete(serving, LONG)
        await complete(serving, "And then? " + LONG, model="a", cache_salt="s")
        await mirror.until_it_has(ids(LONG) | ids("And then? " + LONG, adapter="a", salt="s"))
        stored = [event for event in mirror.events if isinstance(event, BlockStored)]

    assert stored[0].parent is None
    assert {event.lora for event in stored} == {None, "a"}
    assert all(event.block_tokens == 16 and event.medium == "GPU" for event in stored)
    assert sum(event.token_count for event in stored) == 16 * len(mirror.blocks)


async def test_a_cleared_cache_is_told_and_its_blocks_are_computed_again() -> None:
    mirror = Mirror()
    async with (
        open_engine(quick_engine(kv_events=KvEventSettings())) as serving,
        following(serving, mirror),
        httpx.AsyncClient(base_url=serving.url) as http,
    ):
        await complete(serving, LONG)
        await mirror.until_it_has(ids(LONG))
        await http.post("/reset_prefix_cache")
        await complete(serving, LONG)
        await mirror.until_it_has(ids(LONG))
        counts = serving.engine.snapshot().counts

    assert mirror.events.count(AllBlocksCleared()) == 1
    assert counts.prefix_hits == 0
    assert counts.generated_tokens == 32


async def test_what_was_before_is_replayed() -> None:
    mirror = Mirror()
    async with open_engine(quick_engine(kv_events=KvEventSettings())) as serving:
        await complete(serving, LONG)
        async with following(serving, mirror):
            await mirror.until_it_has(ids(LONG))
            await complete(serving, "More. " + LONG)
            await mirror.until_it_has(ids("More. " + LONG))

    assert mirror.others == []
    assert "loss" not in mirror.happenings


async def test_what_the_buffer_no_longer_has_is_lost_and_seen_to_be() -> None:
    mirror = Mirror()
    settings = quick_engine(kv_events=KvEventSettings(buffer_count=1))
    async with open_engine(settings) as serving:
        for number in range(3):
            await complete(serving, f"{number}. {LONG}")
        async with following(serving, mirror):
            await mirror.until_it_has(ids(f"2. {LONG}"))

    assert mirror.happenings.count("loss") == 1
    assert ids(f"0. {LONG}").isdisjoint(mirror.blocks)


async def test_what_is_evicted_is_told_and_the_rest_is_in_the_cache() -> None:
    mirror = Mirror()
    settings = quick_engine(kv_events=KvEventSettings())
    async with open_engine(settings) as serving, following(serving, mirror):
        prompts = [f"{number}. {LONG * 10}" for number in range(12)]
        for prompt in prompts:
            await complete(serving, prompt)
        await mirror.until_it_has(ids(prompts[-1]))
        removed = [event for event in mirror.events if isinstance(event, BlockRemoved)]

    assert removed
    assert not ids(prompts[0]) <= mirror.blocks
    assert len(mirror.blocks) <= QUICK.kv_capacity_tokens // QUICK.block_tokens
