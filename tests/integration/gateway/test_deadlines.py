"""The time that a request may take."""

import asyncio
from typing import TYPE_CHECKING

import pytest

from twofold_cluster.apis import Api
from twofold_router.gateway import exchange

if TYPE_CHECKING:
    from tests.integration.gateway.conftest import OpenCluster


@pytest.mark.parametrize("stream", [False, True])
async def test_the_deadline_ends_a_request_that_hangs(
    open_cluster: "OpenCluster", stream: bool
) -> None:
    async with open_cluster("p1 d1", request_timeout_seconds=0.2) as cluster:
        cluster["d1"].behaviour.gate.clear()
        seen = await cluster.ask(stream=stream)
        cluster["p1"].leases.clear()  # a real engine reads the blocks when it is asked

        assert (seen.status, seen.error["code"]) == (504, "deadline_exceeded")
        await cluster.eventually(lambda: cluster["d1"].aborted == 1)
        assert cluster.metric("refusals_total", code="deadline_exceeded") == 1


async def test_the_deadline_ends_a_request_in_leg_1_and_frees_its_blocks(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1", request_timeout_seconds=0.2) as cluster:
        cluster["p1"].behaviour.gate.clear()
        seen = await cluster.ask()
        cluster["p1"].behaviour.gate.set()

        assert (seen.status, seen.error["code"]) == (504, "deadline_exceeded")
        await cluster.eventually(lambda: cluster.leg_2s and not cluster.leases)


async def test_the_deadline_ends_a_request_that_waits(open_cluster: "OpenCluster") -> None:
    async with open_cluster(
        "p1 d1", request_timeout_seconds=0.2, max_unprefilled_tokens=1
    ) as cluster:
        cluster["p1"].behaviour.gate.clear()
        both = await asyncio.gather(cluster.ask(), cluster.ask())
        cluster["p1"].behaviour.gate.set()

        assert {seen.status for seen in both} == {504}
        assert len(cluster["p1"].received) == 1
        await cluster.eventually(lambda: cluster.leg_2s and not cluster.leases)


async def test_the_deadline_ends_a_stream_with_an_error_event(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1", request_timeout_seconds=0.2) as cluster:
        cluster["d1"].behaviour.pause_after_events = 2
        seen = await cluster.ask(stream=True)

        *_, error, done = seen.events
        assert seen.said == "a0 "
        assert error["error"]["code"] == "deadline_exceeded"
        assert done == "[DONE]"
        assert cluster.metric("refusals_total", code="deadline_exceeded") == 1
        await cluster.eventually(lambda: cluster["d1"].aborted == 1)


async def test_the_deadline_ends_a_message_with_anthropics_error(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1", request_timeout_seconds=0.2) as cluster:
        cluster["d1"].behaviour.pause_after_events = 2
        seen = await cluster.ask(Api.MESSAGES, stream=True)

        assert seen.events[-1]["type"] == "error"
        assert "0.2 seconds" in seen.events[-1]["error"]["message"]


async def test_what_is_passed_on_has_a_deadline_too(open_cluster: "OpenCluster") -> None:
    async with open_cluster("d1", request_timeout_seconds=0.2) as cluster:
        cluster["d1"].behaviour.gate.clear()
        seen = await cluster.ask("/v1/embeddings")

        assert (seen.status, seen.error["code"]) == (504, "deadline_exceeded")
        await cluster.eventually(lambda: cluster["d1"].aborted == 1)


async def test_a_quick_request_is_not_touched_by_its_deadline(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1", request_timeout_seconds=0.2) as cluster:
        seen = [await cluster.ask(stream=bool(number % 2)) for number in range(2)]
        await asyncio.sleep(0.4)

        assert {each.said for each in seen} == {"a0 a1 a2 "}
        assert cluster.metric("refusals_total") == 0


async def test_a_client_that_does_not_even_read_the_error_is_left(
    open_cluster: "OpenCluster", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "LAST_WORDS_SECONDS", 0.1)
    async with open_cluster("d1", request_timeout_seconds=0.5) as cluster:
        cluster["d1"].behaviour.pieces = [b"data: " + bytes(65536) + b"\n\n"] * 400
        client = await cluster.leaving_client(stream=True)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]

        await cluster.eventually(lambda: cluster.metric("requests_total", status="left") == 1)
        await cluster.eventually(lambda: cluster.metric("connections") == 0)
        await client.leave()
