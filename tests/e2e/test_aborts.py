"""Clients that go away at any moment leave nothing behind: no count, and no block."""

import asyncio
import dataclasses
import random
import time
import uuid
from collections.abc import Awaitable, Callable

import httpx
import pytest

from .conftest import Cluster
from .test_exactness import tokens_of

ABORTS_PER_STAGE = 20
CONCURRENT_CLIENTS = {"before_leg_1": 8}
"""More than a prefill worker takes at once, so that some leave while they wait; else two."""

PROMPT_TOKENS = 400

pytestmark = pytest.mark.engine

_random = random.Random(50)

Stage = Callable[[httpx.AsyncClient, dict[str, object], float], Awaitable[None]]


async def before_leg_1(client: httpx.AsyncClient, body: dict[str, object], leg_1: float) -> None:
    """Leave while the prompt is computed, or before."""
    await _post_and_leave_after(client, body, _random.uniform(0.001, 0.6 * leg_1))


async def between_the_legs(
    client: httpx.AsyncClient, body: dict[str, object], leg_1: float
) -> None:
    """Leave around the moment when the prompt is done and the blocks are to be fetched."""
    await _post_and_leave_after(client, body, leg_1 * _random.uniform(0.8, 1.3))


async def in_mid_stream(client: httpx.AsyncClient, body: dict[str, object], leg_1: float) -> None:
    """Leave after some tokens."""
    async with client.stream("POST", "/v1/completions", json={**body, "stream": True}) as response:
        left = _random.randint(1, 8)
        async for _ in response.aiter_lines():
            left -= 1
            if left == 0:
                return


@pytest.mark.parametrize("leave", [before_leg_1, between_the_legs, in_mid_stream])
def test_clients_that_leave_give_everything_back(cluster: Cluster, leave: Stage) -> None:
    cluster.until_idle()
    leg_1_seconds = _measure_leg_1(cluster)
    releases = cluster.metrics().get("twofold_router_releases_total", 0.0)

    asyncio.run(_leave_often(cluster, leave, leg_1_seconds))

    cluster.until_idle()
    metrics = cluster.metrics()
    assert metrics["twofold_router_queued"] == 0
    assert metrics["twofold_router_worker_in_flight"] == 0
    assert metrics.get('twofold_router_releases_total{outcome="release_failed"}', 0) == 0
    if leave is not in_mid_stream:
        # The blocks of a prompt that was computed for nobody were fetched, not left to expire.
        assert metrics["twofold_router_releases_total"] > releases
    assert cluster.expired_leases() == 0
    assert cluster.complete("Hello").headers["x-twofold-mode"] == "disaggregated"


def _measure_leg_1(cluster: Cluster) -> float:
    started = time.monotonic()
    assert cluster.complete(**dataclasses.asdict(_request()), max_tokens=1).status_code == 200
    return time.monotonic() - started


async def _leave_often(cluster: Cluster, leave: Stage, leg_1_seconds: float) -> None:
    places = asyncio.Semaphore(CONCURRENT_CLIENTS.get(leave.__name__, 2))

    async def one() -> None:
        body: dict[str, object] = {
            "model": "smollm2",
            "max_tokens": 64,
            "ignore_eos": True,
            **dataclasses.asdict(_request()),
        }
        # A client of its own: leaving closes the connection.
        async with places, httpx.AsyncClient(base_url=cluster.url, timeout=60) as client:
            await leave(client, body, leg_1_seconds)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(ABORTS_PER_STAGE):
            tasks.create_task(one())


async def _post_and_leave_after(
    client: httpx.AsyncClient, body: dict[str, object], seconds: float
) -> None:
    try:
        async with asyncio.timeout(seconds):
            await client.post("/v1/completions", json=body)
    except TimeoutError:
        pass


@dataclasses.dataclass(frozen=True)
class _Request:
    prompt: list[int]
    cache_salt: str


def _request() -> _Request:
    return _Request(tokens_of(PROMPT_TOKENS), uuid.uuid4().hex)
