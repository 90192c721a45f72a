"""The end of a gateway: what is in flight is finished, within bounds."""

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.integration.gateway.conftest import OpenCluster


async def test_a_stream_in_flight_is_finished_at_shutdown(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1", drain_timeout_seconds=10.0) as cluster:
        behaviour = cluster["d1"].behaviour
        behaviour.pause_after_events = 1
        asking = asyncio.create_task(cluster.ask(stream=True))
        await cluster.eventually(lambda: cluster.metric("ttft_seconds_count"))
        is_idle, cluster.is_idle = cluster.is_idle, lambda: True  # type: ignore[method-assign]
        asyncio.get_running_loop().call_later(0.1, behaviour.gate.set)

    assert (await asking).events[-1] == "[DONE]"
    assert is_idle()


async def test_a_stream_that_does_not_end_is_told_so_and_leaves_nothing(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1", drain_timeout_seconds=0.1) as cluster:
        cluster["d1"].behaviour.pause_after_events = 1
        asking = asyncio.create_task(cluster.ask(stream=True))
        await cluster.eventually(lambda: cluster.metric("ttft_seconds_count"))
        is_idle, cluster.is_idle = cluster.is_idle, lambda: True  # type: ignore[method-assign]

    *_, last, done = (await asking).events
    assert (last["error"]["code"], done) == ("draining", "[DONE]")
    assert is_idle()


async def test_blocks_of_a_request_that_is_cut_off_are_released(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1", drain_timeout_seconds=0.05) as cluster:
        cluster["p1"].behaviour.gate.clear()
        asking = asyncio.create_task(cluster.ask())
        await cluster.eventually(lambda: cluster["p1"].running)
        is_idle, cluster.is_idle = cluster.is_idle, lambda: True  # type: ignore[method-assign]
        asyncio.get_running_loop().call_later(0.3, cluster["p1"].behaviour.gate.set)

    seen = await asking
    assert (seen.status, seen.error["code"], seen.headers["retry-after"]) == (503, "draining", "1")
    assert [received.body["max_tokens"] for received in cluster.leg_2s] == [1]
    assert is_idle()
