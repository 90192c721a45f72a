"""Asking a worker's process through its control paths (control.py)."""

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp

from twofold_engine.errors import EngineError
from twofold_engine.paths import PREFIX

CONTROL_TIMEOUT_SECONDS = 5.0
DRAIN_POLL_SECONDS = 0.2


async def steer(
    address: str, verb: str, body: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """Ask the process at *address*, or with a *body* tell it, to do something.

    Raises:
        EngineError: it does not answer, or refuses.
    """
    method = "GET" if body is None else "POST"
    try:
        async with (
            asyncio.timeout(CONTROL_TIMEOUT_SECONDS),
            aiohttp.ClientSession() as session,
            session.request(method, f"{address}{PREFIX}/{verb}", json=body) as response,
        ):
            if response.status != 200:
                raise EngineError(f"{verb}: {response.status} {await response.text()}")
            answer: dict[str, Any] = await response.json()
            return answer
    except (aiohttp.ClientError, ValueError, TimeoutError) as error:
        raise EngineError(f"{verb}: {error!r}") from error


async def drain(address: str) -> None:
    """Have the process refuse new requests, and wait until it has none. The caller bounds the wait.

    Blocks that decode workers may still fetch count as requests: they keep the KV cache used.

    Raises:
        EngineError: it does not answer.
    """
    await steer(address, "drain", {})
    while (await steer(address, "busy"))["busy"]:  # noqa: ASYNC110 another process's state
        await asyncio.sleep(DRAIN_POLL_SECONDS)
