"""The proof that an engine works: it generates one token, over its own HTTP API."""

import asyncio

import aiohttp

from twofold_cluster.apis import Api
from twofold_engine.errors import EngineStartError

PROBE_TIMEOUT_SECONDS = 120.0
"""The first step of a cold engine may compile kernels."""


async def generate_one_token(address: str, model: str) -> None:
    """Ask the engine at *address* for one token.

    Raises:
        EngineStartError: it answers with an error, with nothing, or not in time.
    """
    body = {"model": model, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
    try:
        async with (
            asyncio.timeout(PROBE_TIMEOUT_SECONDS),
            aiohttp.ClientSession() as session,
            session.post(address + Api.COMPLETIONS, json=body) as response,
        ):
            answer = await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise EngineStartError(f"the first token did not come: {error!r}") from error
    usage = answer.get("usage") if isinstance(answer, dict) else None
    if response.status != 200 or not usage or usage.get("completion_tokens") != 1:
        raise EngineStartError(f"instead of one token came {response.status}: {answer}")
