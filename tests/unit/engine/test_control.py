from collections.abc import Mapping
from typing import Any

import httpx
from fastapi import FastAPI

from twofold_cluster.identity import Role, WorkerId
from twofold_engine.announcing import AnnouncedWorker
from twofold_engine.chains import Chain, Name
from twofold_engine.control import control_routes
from twofold_engine.load import LoadMeter
from twofold_engine.settings import WorkerSettings

SETTINGS = WorkerSettings(
    service="s", worker_id=WorkerId("w"), role=Role.PREFILL, model="m", served_name="m"
)


async def ask_for_chain(name: Name | None, body: object) -> httpx.Response:
    app = FastAPI()
    app.include_router(control_routes(AnnouncedWorker(SETTINGS, LoadMeter()), name))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        return await client.post("/twofold/v1/chain", json=body)


async def test_a_prompts_blocks_are_told_in_order() -> None:
    asked: list[Mapping[str, Any]] = []

    async def name(body: Mapping[str, Any]) -> Chain:
        asked.append(body)
        return Chain(token_count=35, block_tokens=16, blocks=("0a", "0b"))

    answer = await ask_for_chain(name, {"prompt": "Hello", "model": "m"})

    assert answer.json() == {"token_count": 35, "block_tokens": 16, "blocks": ["0a", "0b"]}
    assert asked == [{"prompt": "Hello", "model": "m"}]


async def test_an_engine_whose_names_mean_nothing_to_others_names_none() -> None:
    answer = await ask_for_chain(None, {"prompt": "Hello"})

    assert answer.status_code == 501
    assert "secret" in answer.text
