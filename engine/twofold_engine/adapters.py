"""LoRA adapters of one engine: loaded and unloaded by vLLM's own API, and announced."""

from collections.abc import Callable, MutableMapping
from typing import Any

import aiohttp

from twofold_engine.errors import EngineError
from twofold_engine.gate import AsgiApp, Receive, Send

LOAD_PATH = "/v1/load_lora_adapter"
UNLOAD_PATH = "/v1/unload_lora_adapter"
MODELS_PATH = "/v1/models"

LORA_FLAG = "--enable-lora"
"""Of the engine; without it neither path is there."""


def watch_adapters(app: AsgiApp, on_change: Callable[[], None]) -> AsgiApp:
    """Call *on_change* after each request to *app* that may have changed its adapters."""

    async def watched(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        if scope["type"] == "http" and scope["path"] in (LOAD_PATH, UNLOAD_PATH):
            on_change()

    return watched


async def load(session: aiohttp.ClientSession, address: str, name: str, source: str) -> None:
    """Have the engine at *address* serve the adapter *source* under *name*.

    Raises:
        EngineError: it does not.
    """
    if (await _loaded(session, address)).get(name) == source:
        return  # by an earlier attempt whose answer was lost
    await _post(session, address + LOAD_PATH, {"lora_name": name, "lora_path": source})


async def unload(session: aiohttp.ClientSession, address: str, name: str) -> None:
    """Have the engine at *address* no longer serve the adapter *name*.

    Raises:
        EngineError: it still may.
    """
    if name in await _loaded(session, address):
        await _post(session, address + UNLOAD_PATH, {"lora_name": name})


async def _loaded(session: aiohttp.ClientSession, address: str) -> dict[str, str]:
    """Return the source of each adapter by its name."""
    try:
        async with session.get(address + MODELS_PATH) as response:
            listed = await response.json()
            return {card["id"]: card["root"] for card in listed["data"] if card.get("parent")}
    except (aiohttp.ClientError, ValueError, LookupError, TypeError) as error:
        raise EngineError(f"its models cannot be listed: {error!r}") from error


async def _post(session: aiohttp.ClientSession, url: str, body: dict[str, str]) -> None:
    try:
        async with session.post(url, json=body) as response:
            answer = await response.text()
    except aiohttp.ClientError as error:
        raise EngineError(repr(error)) from error
    if response.status == 404 and "error" not in answer:
        raise EngineError(f"the engine takes no adapters: it is not started with {LORA_FLAG}")
    if response.status != 200:
        raise EngineError(f"the engine answered {response.status}: {answer[:500]}")
