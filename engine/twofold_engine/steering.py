"""Asking a worker's process through its control paths (control.py)."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import aiohttp

from twofold_engine.errors import EngineError
from twofold_engine.paths import PREFIX

CONTROL_TIMEOUT_SECONDS = 5.0
DRAIN_POLL_SECONDS = 0.2
DRAIN_ATTEMPT_COUNT = 3
DRAIN_RETRY_SECONDS = 0.5

_log = logging.getLogger(__name__)


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

    Blocks that decode workers may still fetch count as requests: they keep the KV cache used. An
    engine under load may be late with an answer, so that one alone ends nothing.

    Raises:
        EngineError: it does not answer, several times in a row.
    """
    await _persistently(address, "drain", {})
    while (await _persistently(address, "busy"))["busy"]:  # noqa: ASYNC110 another process's state
        await asyncio.sleep(DRAIN_POLL_SECONDS)


async def _persistently(
    address: str, verb: str, body: Mapping[str, object] | None = None
) -> dict[str, Any]:
    for _ in range(DRAIN_ATTEMPT_COUNT - 1):
        try:
            return await steer(address, verb, body)
        except EngineError as error:
            _log.info("asked again: %s", error)
            await asyncio.sleep(DRAIN_RETRY_SECONDS)
    return await steer(address, verb, body)
