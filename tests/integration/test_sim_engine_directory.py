"""A worker without a model keeps its entry in the block directory, and is found there."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.membership import connect
from twofold_engine.actor import ZONE_ENV, EngineActor
from twofold_engine.chains import Chain
from twofold_engine.events import Step
from twofold_engine.pools.wanting import EngineSpec, Pool
from twofold_engine.settings import WorkerSettings
from twofold_kvtransfer.directory import Directory, Holding
from twofold_sim.live.blocks import Keeping, block_ids
from twofold_sim.live.serving import open_engine
from twofold_sim.live.settings import MembershipSettings
from twofold_sim.live.testing import QUICK, quick_engine
from twofold_sim.live.tokens import tokenize

if TYPE_CHECKING:
    from tests.integration.conftest import Valkey

WAIT_SECONDS = 20.0
W = WorkerId("w")
MANAGER = "the first"
LIFE = Incarnation("1")
STORY = "The quick brown fox jumps over the lazy dog. " * 40
FULL_BLOCKS = len(tokenize(STORY)) // QUICK.block_tokens


@pytest.fixture
async def actor(
    valkey: "Valkey", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[EngineActor]:
    """A worker as Ray would hold it, ready to serve."""
    monkeypatch.setenv(ZONE_ENV, "z")  # or Ray would be asked, which does not run
    profile = tmp_path / "quick.json"
    profile.write_bytes(msgspec.json.encode(QUICK))
    settings = WorkerSettings(
        service="s",
        worker_id=W,
        role=Role.PREFILL,
        model="quick",
        served_name="quick",
        incarnation=LIFE,
        redis=valkey.url,
        kv_events=True,
        directory_holdings=FULL_BLOCKS - 1,
        engine_args=("--profile", str(profile)),
    )
    pool = Pool(Role.PREFILL, "1", 1, EngineSpec(model="quick", served_name="quick"))
    actor = EngineActor(settings, str(tmp_path), "127.0.0.1", "sim", MANAGER, pool)
    await actor.start(MANAGER)
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while (await actor.state(MANAGER)).step is not Step.READY:
                await asyncio.sleep(0.02)
        yield actor
    finally:
        await actor.stop(MANAGER, 5.0)


async def post(url: str, path: str, body: dict[str, Any]) -> httpx.Response:
    async with httpx.AsyncClient(base_url=url, timeout=WAIT_SECONDS) as http:
        return await http.post(path, json=body)


async def chain_of(url: str, **body: Any) -> Chain:
    answer = await post(url, "/twofold/v1/chain", body)
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=Chain)


async def until_found(valkey: "Valkey", chain: Chain, *expected: Holding) -> None:
    blocks = [bytes.fromhex(name) for name in chain.blocks]
    async with asyncio.timeout(WAIT_SECONDS), connect(valkey.url) as redis:
        while await Directory(redis, "s").find(blocks) != list(expected):
            await asyncio.sleep(0.02)


async def test_a_simulated_worker_is_listed_within_the_limit_until_its_process_ends(
    actor: EngineActor, valkey: "Valkey"
) -> None:
    state = await actor.state(MANAGER)
    await post(state.address, "/v1/completions", {"prompt": STORY, "max_tokens": 1})
    chain = await chain_of(state.address, prompt=STORY)

    limited = Holding(W, LIFE, "GPU", FULL_BLOCKS - 1, degraded=True)
    await until_found(valkey, chain, limited)
    os.kill(state.pid, signal.SIGKILL)

    await until_found(valkey, chain)
    async with connect(valkey.url) as redis:
        # Not by its time limit, which leaves a worker's own incarnation behind.
        assert await redis.hget("twofold:{s}:kv:life:w", "incarnation") == b"1~"


async def test_a_chain_has_the_names_of_the_blocks_that_an_engine_keeps() -> None:
    place = MembershipSettings(worker_id=W)
    chat = {"messages": [{"role": "user", "content": STORY}]}
    async with open_engine(quick_engine(membership=place, adapters=("a",))) as serving:
        plain = await chain_of(serving.url, prompt=STORY)
        salted = await chain_of(serving.url, prompt=STORY, model="a", cache_salt="s")
        talk = await chain_of(serving.url, **chat)
        usage = (await post(serving.url, "/v1/chat/completions", chat)).json()["usage"]

    tokens = tokenize(STORY)

    def names(**keeping: str) -> tuple[str, ...]:
        ids = block_ids(tokens, QUICK.block_tokens, Keeping("quick", **keeping))
        return tuple(block.to_bytes(8, "big").hex() for block in ids)

    assert plain == Chain(len(tokens), QUICK.block_tokens, names())
    assert salted.blocks == names(adapter="a", salt="s")
    assert talk.token_count == usage["prompt_tokens"]
    assert set(talk.blocks).isdisjoint(plain.blocks)


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        ({"prompt": ["a", "b"]}, 400, "one prompt is named at a time, not 2"),
        ({"prompt": ""}, 400, "cannot be empty"),
        ({"prompt": "a " * 9000}, 400, "maximum context length"),
        ({}, 400, "prompt"),
        ({"prompt": "a", "model": "other"}, 404, "does not exist"),
    ],
)
async def test_what_an_engine_would_not_serve_it_does_not_name(
    body: dict[str, Any], status: int, why: str
) -> None:
    async with open_engine(quick_engine(membership=MembershipSettings(worker_id=W))) as serving:
        answer = await post(serving.url, "/twofold/v1/chain", body)

    assert answer.status_code == status
    assert why in answer.json()["error"]["message"]
