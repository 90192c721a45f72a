"""Clients that leave, at every stage: nothing of theirs stays behind.

What ``open_cluster`` checks at the end of each test is the claim: no request in flight or queued,
no count at any worker, nobody running at an engine, and no lease on blocks.
"""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec
import pytest

from twofold_cluster.apis import Api, PassedOnApi

if TYPE_CHECKING:
    from tests.integration.gateway.conftest import OpenCluster

CHAT = "/v1/chat/completions"
LEFT = {"reason": "", "status": "left"}


async def test_a_client_that_leaves_the_queue_costs_no_worker_anything(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1", max_unprefilled_tokens=1) as cluster:
        cluster["p1"].behaviour.gate.clear()
        first = asyncio.create_task(cluster.ask())
        await cluster.eventually(lambda: cluster["p1"].running)
        client = await cluster.leaving_client()
        await cluster.eventually(lambda: cluster.metric("queued") == 1)
        await client.leave()
        await cluster.eventually(lambda: cluster.metric("queued") == 0)
        cluster["p1"].behaviour.gate.set()

        assert (await first).status == 200
        assert len(cluster["p1"].received) == 1
        await cluster.eventually(lambda: cluster.metric("requests_total", mode="none", **LEFT) == 1)


async def test_a_client_that_leaves_during_leg_1_has_its_blocks_released_after_it(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1") as cluster:
        cluster["p1"].behaviour.gate.clear()
        client = await cluster.leaving_client(max_tokens=50, stream=True)
        await cluster.eventually(lambda: cluster["p1"].running)
        await client.leave()
        labels = {"mode": "disaggregated", **LEFT}
        await cluster.eventually(lambda: cluster.metric("requests_total", **labels))
        still_counted = cluster.metric("in_flight")
        cluster["p1"].behaviour.gate.set()
        await cluster.eventually(lambda: cluster.metric("releases_total", outcome="released"))

        assert still_counted == 1
        assert cluster["p1"].aborted == 0
        assert [received.body["max_tokens"] for received in cluster.leg_2s] == [1]
        assert not cluster.leg_2s[0].body["stream"]


async def test_a_release_finds_another_decode_worker(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1 d2") as cluster:
        cluster["d1"].behaviour.drops = True
        cluster["p1"].behaviour.gate.clear()
        clients = [await cluster.leaving_client() for _ in range(2)]
        await cluster.eventually(lambda: cluster["p1"].running == 2)
        for client in clients:
            await client.leave()
        cluster["p1"].behaviour.gate.set()
        await cluster.eventually(lambda: cluster.metric("releases_total", outcome="released") == 2)

        assert cluster["d1"].received
        assert cluster.metric("upstream_errors_total", leg="release", kind="broken") >= 1


async def test_a_release_that_nobody_takes_is_given_up_and_counted(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("p1 d1", release_timeout_seconds=0.1) as cluster:
        cluster.keeps_leases = True
        cluster["d1"].behaviour.gate.clear()
        cluster["p1"].behaviour.gate.clear()
        client = await cluster.leaving_client()
        await cluster.eventually(lambda: cluster["p1"].running)
        await client.leave()
        cluster["p1"].behaviour.gate.set()

        await cluster.eventually(
            lambda: cluster.metric("releases_total", outcome="release_failed") == 1
        )
        assert cluster.metric("upstream_errors_total", leg="release", kind="timeout") == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_before_leg_2_answers_aborts_it(
    open_cluster: "OpenCluster", stream: bool
) -> None:
    async with open_cluster("p1 d1") as cluster:
        cluster["d1"].behaviour.gate.clear()
        client = await cluster.leaving_client(stream=stream)
        await cluster.eventually(lambda: cluster["d1"].running)
        # The fake engine reads the blocks when it answers, a real one when it is asked.
        cluster["p1"].leases.clear()
        await client.leave()

        await cluster.eventually(lambda: cluster["d1"].aborted == 1)
        await cluster.eventually(cluster.is_idle)
        assert len(cluster.leg_2s) == 1


async def test_a_client_that_leaves_a_leg_2_that_was_not_taken_whole_has_its_blocks_released(
    open_cluster: "OpenCluster",
) -> None:
    whole_count = 0
    begun, may_go_on = asyncio.Event(), asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read one byte, and the rest, if it comes, once that is allowed."""
        nonlocal whole_count
        await reader.readexactly(1)
        begun.set()
        await may_go_on.wait()
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        with suppress(asyncio.IncompleteReadError):
            await reader.readexactly(length)
            whole_count += 1
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    # More than the kernel's buffers hold.
    message = {"role": "user", "content": "x" * 30_000_000}
    async with server, open_cluster("p1 d1") as cluster:
        cluster.keeps_leases = True
        d1 = cluster["d1"]
        d1.worker = msgspec.structs.replace(d1.worker, address=f"http://{host}:{port}")
        cluster.follow("p1", "d1")
        client = await cluster.leaving_client(messages=[message])
        await begun.wait()
        await client.leave()
        await cluster.eventually(lambda: cluster.metric("requests_total", status="left"))
        may_go_on.set()

        await cluster.eventually(lambda: cluster.metric("releases_total", outcome="released"))
        assert whole_count == 1


@pytest.mark.parametrize("api", Api)
async def test_a_client_that_leaves_in_mid_stream_aborts_it(
    open_cluster: "OpenCluster", api: Api
) -> None:
    async with open_cluster("p1 d1") as cluster:
        # The first two of a response tell only that it has begun.
        cluster["d1"].behaviour.pause_after_events = 3 if api is Api.RESPONSES else 1
        client = await cluster.leaving_client(api, stream=True)
        await cluster.eventually(lambda: cluster.metric("ttft_seconds_count"))
        await client.leave()

        await cluster.eventually(lambda: cluster["d1"].aborted == 1)
        labels = {"mode": "disaggregated", **LEFT}
        await cluster.eventually(lambda: cluster.metric("requests_total", **labels) == 1)


async def test_a_client_that_closes_its_side_only_has_left_too(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1") as cluster:
        cluster["d1"].behaviour.pause_after_events = 1
        client = await cluster.leaving_client(stream=True)
        await client.reader.readuntil(b"200 OK")
        client.writer.write_eof()

        await cluster.eventually(lambda: cluster["d1"].aborted == 1)
        await client.leave()


async def test_a_client_that_leaves_within_a_whole_answer_has_left(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("d1") as cluster:
        cluster["d1"].behaviour.token_count = 2_000_000  # more than the kernel's buffers hold
        client = await cluster.leaving_client()
        await client.reader.readuntil(b"200 OK")
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await cluster.eventually(lambda: cluster.metric("output_tokens_total"))
        before = cluster.metric("requests_total")
        await client.leave()

        await cluster.eventually(lambda: cluster.metric("requests_total", status="left") == 1)
        assert before == 0


@pytest.mark.parametrize("api", PassedOnApi)
async def test_a_client_that_leaves_what_is_passed_on_aborts_it(
    open_cluster: "OpenCluster", api: PassedOnApi
) -> None:
    async with open_cluster("d1") as cluster:
        cluster["d1"].behaviour.gate.clear()
        client = await cluster.leaving_client(api)
        await cluster.eventually(lambda: cluster["d1"].running)
        await client.leave()

        await cluster.eventually(lambda: cluster["d1"].aborted == 1)


async def test_a_client_that_leaves_in_mid_body_leaves_nothing(open_cluster: "OpenCluster") -> None:
    async with open_cluster("p1 d1") as cluster:
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        client = await cluster.connect(f'{head}Content-Length: 100\r\n\r\n{{"model"'.encode())
        await cluster.eventually(lambda: cluster.metric("connections") == 1)
        await client.leave()
        await cluster.eventually(lambda: cluster.metric("connections") == 0)

        assert (await cluster.ask()).status == 200
        assert cluster.metric("requests_total") == 1


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.003, 0.006, 0.01, 0.02])
async def test_clients_that_leave_at_any_moment_leave_nothing(
    open_cluster: "OpenCluster", seconds: float
) -> None:
    async with open_cluster(max_unprefilled_tokens=20) as cluster:
        for stream in (False, True) * 8:
            client = await cluster.leaving_client(stream=stream)
            await asyncio.sleep(seconds)
            await client.leave()
        await cluster.eventually(lambda: cluster.metric("requests_total") == 16)
        await cluster.eventually(cluster.is_idle)
        await cluster.eventually(lambda: cluster.metric("connections") == 0)

        assert (await cluster.ask()).status == 200


async def test_a_client_that_stops_to_read_stops_the_engine_and_no_memory_grows(
    open_cluster: "OpenCluster",
) -> None:
    async with open_cluster("d1", disaggregate=False) as cluster:
        piece = b"data: " + bytes(65536) + b"\n\n"
        cluster["d1"].behaviour.pieces = [piece] * 400
        client = await cluster.leaving_client(stream=True)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await cluster.eventually(lambda: cluster.metric("ttft_seconds_count"))
        await asyncio.sleep(0.3)
        still_running = cluster["d1"].running
        await client.leave()

        assert still_running == 1
        await cluster.eventually(lambda: cluster["d1"].aborted == 1)


async def test_nothing_of_a_request_is_left_to_the_garbage_collector(
    open_cluster: "OpenCluster", no_collection: None
) -> None:
    """It runs seldom, and a prompt would wait for it."""
    async with open_cluster("p1 d1") as cluster:
        assert (await cluster.ask(stream=True)).status == 200
        cluster["d1"].behaviour.pause_after_events = 1
        client = await cluster.leaving_client(stream=True)
        await cluster.eventually(lambda: cluster.metric("ttft_seconds_count") == 2)
        await client.leave()
        await cluster.eventually(cluster.is_idle)
        await cluster.eventually(lambda: cluster.gateway.server.connections <= 1)
        await asyncio.sleep(0)

        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = {type(each).__qualname__ for each in gc.garbage if _is_ours(each)}

    assert left == set()


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


def _is_ours(found: object) -> bool:
    return type(found).__module__.startswith("twofold_router.")
