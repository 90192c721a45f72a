"""Ask the supervisor's children whether they serve."""

import asyncio

import aiohttp
from redis.exceptions import RedisError

from twofold_cluster.membership import connect

PROBE_TIMEOUT_SECONDS = 2.0


async def valkey_answers(url: str) -> bool:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_SECONDS), connect(url) as redis:
            await redis.ping()
    except (RedisError, OSError, TimeoutError):
        return False
    return True


async def router_is_ready(endpoint: str, *, complete: bool) -> bool:
    """Say whether the router serves; *complete*: and knows of workers of both roles."""
    try:
        async with (
            asyncio.timeout(PROBE_TIMEOUT_SECONDS),
            aiohttp.ClientSession() as session,
            session.get(f"{endpoint}/ready") as answer,
        ):
            return answer.status == 200 and not (complete and (await answer.json())["missing"])
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError):
        return False
