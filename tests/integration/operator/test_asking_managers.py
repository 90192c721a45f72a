"""Whether a pool manager has had the time to answer."""

import asyncio

from twofold_operator.cluster_api import ServiceKey
from twofold_operator.pool_managers import ConnectionLimits, PoolManagers

KEY = ServiceKey("models", "chat")
NOBODY = "127.0.0.1:1"


async def test_a_manager_that_never_answers_has_had_its_time_at_some_point() -> None:
    news = asyncio.Event()
    limits = ConnectionLimits(unreachable_seconds=0.1)
    async with PoolManagers(lambda key: news.set(), limits) as managers:
        managers.follow(KEY, [NOBODY])
        assert managers.unasked(KEY) == {NOBODY}

        async with asyncio.timeout(60):
            await news.wait()

        assert managers.unasked(KEY) == frozenset()
        assert managers.seen(KEY) == {}


async def test_a_service_without_managers_waits_for_none() -> None:
    async with PoolManagers(lambda key: None) as managers:
        managers.follow(KEY, [])

        assert managers.unasked(KEY) == frozenset()
