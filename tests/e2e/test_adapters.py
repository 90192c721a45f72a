"""A LoRA adapter on a real engine: loaded, announced, used, and unloaded."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import zmq.asyncio
from safetensors.torch import save_file

from twofold_cli.directories import cache_directory
from twofold_cli.models import smollm2
from twofold_cluster.identity import Role, WorkerId
from twofold_cluster.kv_events import Batch, BlockStored, Happening
from twofold_cluster.kv_events.following import Follower, Source
from twofold_engine.errors import EngineError
from twofold_engine.events import Step
from twofold_engine.settings import WorkerSettings
from twofold_engine.supervising import WorkerProcess

START_SECONDS = 240.0
LOAD_SECONDS = 60.0
RANK = 8
EVENT_SECONDS = 20.0

pytestmark = pytest.mark.engine


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[WorkerProcess]:
    file = smollm2.find_file()
    assert file is not None, smollm2.INSTALL
    model = smollm2.converted_directory(file, cache_directory(os.environ))
    smollm2.convert(file, model)
    settings = WorkerSettings(
        service="s",
        worker_id=WorkerId("w"),
        role=Role.DECODE,
        model=str(model),
        served_name="smollm2",
        standby=True,
        kv_events=True,
        engine_args=("--max-model-len", "256", "--enable-lora", "--max-lora-rank", str(RANK)),
    )
    process = WorkerProcess(settings, "twofold_decode_worker", tmp_path)
    await process.start()
    try:
        async with asyncio.timeout(START_SECONDS):
            while process.state.step is not Step.READY:
                assert not process.state.ended, process.state
                await asyncio.sleep(0.1)
        yield process
    finally:
        await process.stop(limit_seconds=30)


def an_adapter(directory: Path) -> Path:
    """Make an adapter of the attention's queries that changes what the model says."""
    directory.mkdir()
    generator = torch.Generator().manual_seed(1)
    weights = {}
    for layer in range(30):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights[f"{name}.lora_A.weight"] = torch.randn(RANK, 576, generator=generator)
        weights[f"{name}.lora_B.weight"] = torch.randn(576, RANK, generator=generator)
    save_file(weights, directory / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": RANK,
        "target_modules": ["q_proj"],
        "bias": "none",
    }
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


async def test_an_adapter_is_loaded_announced_used_and_unloaded(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    source = str(an_adapter(tmp_path / "adapter"))
    async with httpx.AsyncClient(base_url=worker.state.address, timeout=LOAD_SECONDS) as http:

        async def announced() -> dict[str, Any]:
            entry: dict[str, Any] = (await http.get("/twofold/v1/worker")).json()
            return entry

        async def say(model: str) -> httpx.Response:
            body = {"model": model, "prompt": "The capital of France", "max_tokens": 8}
            return await http.post("/v1/completions", json=body | {"temperature": 0})

        first = await announced()
        await worker.stand_by(False)
        active = await announced()
        with pytest.raises(EngineError, match="No adapter found"):
            await worker.load_adapter("other", str(tmp_path / "no-such"))
        async with asyncio.timeout(LOAD_SECONDS):
            await worker.load_adapter("tuned", source)
            await worker.load_adapter("tuned", source)
        loaded = await announced()
        plain, tuned = await say("smollm2"), await say("tuned")
        await worker.unload_adapter("tuned")
        unloaded = await announced()
        unknown = await say("tuned")

    assert (first["state"], first.get("adapters")) == ("standby", [])
    assert active["state"] == "ready"
    assert loaded["adapters"] == ["tuned"]
    assert plain.json()["choices"][0]["text"] != tuned.json()["choices"][0]["text"]
    assert unloaded["adapters"] == []
    assert unknown.status_code == 404


async def test_blocks_are_named_as_the_engine_itself_names_them(
    worker: WorkerProcess, tmp_path: Path
) -> None:
    source = str(an_adapter(tmp_path / "adapter"))
    text = "The river runs to the sea, and the sea is never full. " * 15
    asked: list[dict[str, Any]] = [
        {"model": "smollm2", "prompt": text},
        {"prompt": text, "cache_salt": "salt"},
        {"model": "tuned", "prompt": text},
        {"model": "tuned", "messages": [{"role": "user", "content": text}]},
    ]
    async with httpx.AsyncClient(base_url=worker.state.address, timeout=LOAD_SECONDS) as http:
        await worker.stand_by(False)
        await worker.load_adapter("tuned", source)
        entry = (await http.get("/twofold/v1/worker")).json()
        answers = [await http.post("/twofold/v1/chain", json=body) for body in asked]
        unknown = await http.post("/twofold/v1/chain", json={"model": "other", "prompt": text})
        wrong = await http.post("/twofold/v1/chain", json={"model": "smollm2", "prompt": 3.5})
        long = await http.post("/twofold/v1/chain", json={"prompt": text * 10})
        named = []
        for body in asked:
            api = "/v1/chat/completions" if "messages" in body else "/v1/completions"
            said = await http.post(api, json=body | {"max_tokens": 1})
            assert said.status_code == 200, said.text
            named.append(said.json()["usage"]["prompt_tokens"])

    chains = [answer.json() for answer in answers]
    assert [chain["token_count"] for chain in chains] == named
    assert [len(chain["blocks"]) for chain in chains] == [
        count // chain["block_tokens"] for count, chain in zip(named, chains, strict=True)
    ]
    names = [name for chain in chains for name in chain["blocks"]]
    assert len(set(names)) == len(names) >= len(asked)
    assert await blocks_stored(entry, len(names)) >= set(names)
    assert [answer.status_code for answer in (unknown, wrong, long)] == [404, 400, 400]


async def blocks_stored(entry: dict[str, Any], count: int) -> set[str]:
    """Return what the engine of a worker has said that it stores, once that is *count* blocks."""
    stored: set[str] = set()
    is_enough = asyncio.Event()

    def hear(happening: Happening) -> None:
        assert isinstance(happening, Batch)
        for event in happening.batch.events:
            if isinstance(event, BlockStored):
                hashes = event.block_hashes
                stored.update(h.to_bytes(8, "big").hex() for h in hashes if isinstance(h, int))
        if len(stored) >= count:
            is_enough.set()

    source = Source(
        entry["worker_id"], entry["incarnation"], entry["kv_events"], entry["kv_events_replay"]
    )
    context = zmq.asyncio.Context()
    try:
        async with asyncio.timeout(EVENT_SECONDS), asyncio.TaskGroup() as tasks:
            following = tasks.create_task(Follower(context, source, hear).run())
            await is_enough.wait()
            following.cancel()
    finally:
        context.destroy(linger=0)
    return stored
