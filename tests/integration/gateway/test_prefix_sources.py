"""Leg 1 names a third worker that holds the prefix, and what was fetched is learned."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from twofold_cluster.worker import Engine, Load
from twofold_router.testing import FakeEngine

if TYPE_CHECKING:
    from tests.integration.gateway.conftest import Cluster, OpenCluster, Seen

BLOCK_TOKENS = 64
BLOCK_BYTES = 4 * BLOCK_TOKENS
SECONDS_PER_TOKEN = 0.05
"""As the workers announce it: so slow that real time changes nothing that is predicted."""

STORY = "".join(f"{number:08d}" for number in range(20 * BLOCK_BYTES // 8))
"""20 blocks."""

PREFILLING = ("p1", "p2")

STRANGERS: dict[str, dict[str, Any]] = {
    "revision": {"revision": "r2"},
    "engine": {"engine": Engine(version="0", compatibility="c2")},
}
"""What a worker announces that shares no blocks with the others."""


def story(block_count: int, rest: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": STORY[: block_count * BLOCK_BYTES] + rest}]


def announce(cluster: "Cluster", name: str, **changes: Any) -> None:
    """Have engine *name* announce a side channel, how slow it is, and *changes*."""
    engine = cluster[name]
    told = {
        "kv_side_channel": f"{name}.example:5600",
        "load": Load(seconds_per_prefill_token=SECONDS_PER_TOKEN),
    }
    engine.worker = msgspec.structs.replace(engine.worker, **told | changes)
    cluster.follow(*cluster.engines)


async def tell(cluster: "Cluster") -> tuple[FakeEngine, FakeEngine]:
    """Have the story told; return the prefill worker that has it now, and the other."""
    seen = await cluster.ask(messages=story(20, ""))
    warm = cluster[str(seen.served[1])]
    (cold,) = (cluster[name] for name in PREFILLING if cluster[name] is not warm)
    return warm, cold


@asynccontextmanager
async def busy(cluster: "Cluster", warm: FakeEngine) -> AsyncIterator[None]:
    """Give *warm* 30 blocks to compute."""
    warm.behaviour.gate.clear()
    asking = asyncio.create_task(cluster.ask(messages=story(20, "w" * 30 * BLOCK_BYTES)))
    await cluster.eventually(lambda: warm.running)
    try:
        yield
    finally:
        warm.behaviour.gate.set()
        await asking


async def ask_the_cold_one(cluster: "Cluster", cold: FakeEngine) -> "Seen":
    """Ask for three blocks of the story, which *cold* computes sooner than the other can."""
    seen = await cluster.ask(messages=story(3, "and something else"))
    assert seen.served[1] == cold.worker.worker_id
    return seen


async def test_leg_1_names_the_worker_that_holds_the_prefix(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 p2 d1", block_tokens=BLOCK_TOKENS) as cluster:
        for name in PREFILLING:
            announce(cluster, name)
        warm, cold = await tell(cluster)
        cold.behaviour.pull_seconds_per_token = 0.001
        async with busy(cluster, warm):
            found_tokens = cluster.metric("cached_tokens_reported_total")
            await ask_the_cold_one(cluster, cold)
            assert cluster.metric("cached_tokens_reported_total") == found_tokens

        (leg_1,), leg_2 = cold.received, cluster["d1"].received[1]
        source = leg_1.params["prefix_source"]
        assert source.pop("tokens") in range(2 * BLOCK_TOKENS, 4 * BLOCK_TOKENS)
        told = {
            "engine_id": f"{warm.worker.worker_id}:{warm.worker.incarnation}",
            "host": f"{warm.worker.worker_id}.example",
            "port": 5600,
            "tensor_parallel": 1,
            "seconds_per_token": SECONDS_PER_TOKEN,
        }
        assert told.items() <= source.items()
        assert all("prefix_source" not in leg.params for leg in warm.received)
        pulled = leg_2.params["prefix_tokens"]
        assert pulled in range(2 * BLOCK_TOKENS, 4 * BLOCK_TOKENS)
        assert leg_2.params["prefix_seconds"] == pytest.approx(pulled * 0.001)
        assert cluster.metric("prefix_sources_total") == 1
        assert cluster.metric("pulled_tokens_total") == pulled


@pytest.mark.parametrize("what", ["story", "revision", "engine", "side channel", "switch"])
async def test_leg_1_names_nobody_without_a_peer_that_holds_the_prefix(
    open_cluster: "OpenCluster", what: str
) -> None:
    settings = {"block_tokens": BLOCK_TOKENS, "prefix_pull": what != "switch"}
    async with open_cluster("p1 p2 d1 d2", **settings) as cluster:
        for name in cluster.engines:
            announce(cluster, name)
        for name in ("p2", "d2"):
            announce(cluster, name, **STRANGERS.get(what, {}))
        warm, cold = await tell(cluster)
        if what == "side channel":
            announce(cluster, warm.worker.worker_id, kv_side_channel="")
        async with busy(cluster, warm):
            if what == "story":
                await cluster.ask(messages=[{"role": "user", "content": "another story " * 64}])
            else:
                await ask_the_cold_one(cluster, cold)

        assert "prefix_source" not in cold.received[-1].params
        assert cluster.metric("prefix_sources_total") == 0


@pytest.mark.parametrize("is_suspect", [True, False])
async def test_leg_1_names_nobody_who_is_suspect_or_gone(
    open_cluster: "OpenCluster", is_suspect: bool
) -> None:
    async with open_cluster("p1 p2 d1", block_tokens=BLOCK_TOKENS, suspect_seconds=60.0) as cluster:
        for name in PREFILLING:
            announce(cluster, name)
        warm, cold = await tell(cluster)
        if is_suspect:
            cluster.dispatcher.suspect(warm.worker)
        else:
            cluster.follow(cold.worker.worker_id, "d1")

        await ask_the_cold_one(cluster, cold)

        assert "prefix_source" not in cold.received[0].params


@pytest.mark.parametrize("is_pulled", [True, False])
async def test_a_measured_pull_sends_a_long_prefix_to_be_fetched(
    open_cluster: "OpenCluster", is_pulled: bool
) -> None:
    async with open_cluster("p1 p2 d1", block_tokens=BLOCK_TOKENS) as cluster:
        for name in PREFILLING:
            announce(cluster, name)
        warm, cold = await tell(cluster)
        cold.behaviour.pull_seconds_per_token = 0.0001 if is_pulled else None
        async with busy(cluster, warm):
            await ask_the_cold_one(cluster, cold)
            asking = asyncio.create_task(cluster.ask(messages=story(20, "to be gone on with")))
            await cluster.eventually(lambda: len(cold.received) == 2 or warm.running == 2)

        seen = await asking
        assert seen.served[1] == (cold if is_pulled else warm).worker.worker_id
        assert cluster.metric("prefix_sources_total") == (2 if is_pulled else 1)
