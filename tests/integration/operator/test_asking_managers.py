"""Whether a pool manager has had the time to answer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.cluster.managers import StandInManager

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


async def test_a_manager_is_not_given_up_while_it_waits_for_its_turn() -> None:
    """As when an operator starts, which has hundreds to ask."""
    limits = ConnectionLimits(
        unreachable_seconds=0.3, answer_seconds=1.5, min_retry_seconds=30.0, attempt_count=1
    )
    states: list[tuple[bool, bool]] = []
    other = ServiceKey("models", "other")
    manager = StandInManager("other")

    def note(key: ServiceKey) -> None:
        if key == other:
            states.append((bool(managers.unasked(key)), bool(managers.seen(key))))

    try:
        async with _silence() as silent, PoolManagers(note, limits) as managers:
            managers.follow(KEY, [silent])
            await asyncio.sleep(0.1)
            managers.follow(other, [f"127.0.0.1:{manager.port}"])
            async with asyncio.timeout(60):
                while not states:
                    await asyncio.sleep(0.05)
    finally:
        manager.close()

    assert states[0] == (False, True), "the first that is heard of it is its answer"


@asynccontextmanager
async def _silence() -> AsyncIterator[str]:
    """Take connections, and say nothing."""

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(wait, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"
