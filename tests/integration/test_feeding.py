"""What a worker's engine publishes reaches the block directory, over real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import zmq.asyncio
from prometheus_client import CollectorRegistry

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.kv_events import (
    Batch,
    BlockRemoved,
    EventBatch,
    Fresh,
    Happening,
    Lost,
    Restarted,
)
from twofold_cluster.kv_events.following import Follower, replaying, source_of
from twofold_cluster.kv_events.following.testing import Publisher, publisher
from twofold_cluster.membership import connect
from twofold_cluster.membership.entries import REDIS_IS_AWAY
from twofold_cluster.worker import Engine, Worker
from twofold_engine.feeding import feed_directory
from twofold_kvtransfer.directory import Directory, Feeder, Holding, Position, Rebuild

if TYPE_CHECKING:
    from tests.integration.conftest import Valkey

WAIT_SECONDS = 20.0
CHAIN = [101, 102, 103, 104]


def a_worker(source: Publisher, incarnation: str = "1") -> Worker:
    return Worker(
        worker_id=WorkerId("w"),
        incarnation=Incarnation(incarnation),
        service="s",
        role=Role.PREFILL,
        revision="1",
        address="http://127.0.0.1:1",
        model="m",
        engine=Engine(version="0.32.0", compatibility="abc"),
        kv_capacity_tokens=1024,
        kv_block_tokens=16,
        max_model_tokens=1024,
        kv_events=source.endpoint,
        kv_events_replay=source.replay_endpoint,
    )


def stored(*blocks: int) -> dict[str, Any]:
    return {
        "type": "BlockStored",
        "block_hashes": blocks,
        "parent_block_hash": None,
        "token_ids": [0] * 16 * len(blocks),
        "block_size": 16,
        "medium": "GPU",
    }


def removal(block: int) -> dict[str, Any]:
    return {"type": "BlockRemoved", "block_hashes": [block], "medium": "GPU"}


def held(block_count: int, *, degraded: bool = False, incarnation: str = "1") -> Holding:
    return Holding(WorkerId("w"), Incarnation(incarnation), "GPU", block_count, degraded)


@asynccontextmanager
async def feeding(url: str, worker: Worker, **more: Any) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(feed_directory(url, worker, **more))
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(url: str, *expected: Holding) -> None:
    async with asyncio.timeout(WAIT_SECONDS), connect(url) as redis:
        directory = Directory(redis, "s")
        while True:
            with contextlib.suppress(*REDIS_IS_AWAY):
                if await directory.find(CHAIN) == list(expected):
                    return
            await asyncio.sleep(0.02)


async def until_all_is_listed(url: str) -> None:
    async with asyncio.timeout(WAIT_SECONDS), connect(url) as redis:
        directory = Directory(redis, "s")
        while not await directory.lists_all(WorkerId("w"), Incarnation("1")):
            await asyncio.sleep(0.02)


async def test_what_an_engine_stores_and_drops_is_found(valkey: "Valkey") -> None:
    async with publisher() as source:
        await source.publish(stored(*CHAIN[:2]))  # before anybody listens
        async with feeding(valkey.url, a_worker(source)):
            await until(valkey.url, held(2))
            await source.publish(stored(*CHAIN[2:]))
            await until(valkey.url, held(4))
            await source.publish(removal(CHAIN[1]))
            await until(valkey.url, held(1))


async def test_a_feed_is_shown_for_as_long_as_it_lasts(valkey: "Valkey") -> None:
    registry = CollectorRegistry()
    held_now = "twofold_kv_directory_holdings"
    async with publisher() as source:
        await source.publish(stored(*CHAIN))
        async with feeding(valkey.url, a_worker(source), registry=registry):
            await until(valkey.url, held(4))
            meanwhile = registry.get_sample_value(held_now)

    assert meanwhile == 4.0
    assert registry.get_sample_value(held_now) is None


async def test_all_is_listed_of_a_worker_that_has_stored_nothing_yet(valkey: "Valkey") -> None:
    async with publisher() as source, feeding(valkey.url, a_worker(source)):
        await until_all_is_listed(valkey.url)
        await source.publish(stored(*CHAIN[:2]))
        await until(valkey.url, held(2))


async def test_no_more_is_listed_than_was_allowed(valkey: "Valkey") -> None:
    async with publisher() as source:
        await source.publish(stored(*CHAIN))
        async with feeding(valkey.url, a_worker(source), max_holdings=3):
            await until(valkey.url, held(3, degraded=True))


async def test_a_worker_that_ends_in_order_holds_nothing_and_does_not_come_back(
    valkey: "Valkey",
) -> None:
    async with publisher() as source:
        await source.publish(stored(*CHAIN))
        async with feeding(valkey.url, a_worker(source)):
            await until(valkey.url, held(4))

        await until(valkey.url)
        async with feeding(valkey.url, a_worker(source, "2")):
            await until(valkey.url, held(4, incarnation="2"))


async def test_what_a_gap_has_hidden_may_be_held(valkey: "Valkey") -> None:
    async with publisher(buffer_size=1) as source:
        await source.publish(stored(*CHAIN[:1]))
        async with feeding(valkey.url, a_worker(source)):
            await until(valkey.url, held(1))
            await source.publish(removal(CHAIN[0]), drop=True)
            await source.publish(stored(*CHAIN[:2]), drop=True)
            await source.publish(stored(CHAIN[0]))
            await until(valkey.url, held(1, degraded=True))


async def test_a_message_that_is_no_batch_hides_nothing(valkey: "Valkey") -> None:
    async with publisher() as source, feeding(valkey.url, a_worker(source)):
        await source.subscribed()
        await source.publish(stored(*CHAIN[:1]))
        await source.send(b"three", b"strange", b"frames")
        await source.publish(stored(*CHAIN[1:]))

        await until(valkey.url, held(4))


async def test_an_engine_that_begins_anew_holds_what_it_stores_from_then_on(
    valkey: "Valkey",
) -> None:
    async with publisher() as source, feeding(valkey.url, a_worker(source)):
        await source.subscribed()
        await source.publish(stored(*CHAIN))
        await until(valkey.url, held(4))
        source.restart()
        await source.publish(stored(*CHAIN[:2]))

        await until(valkey.url, held(2))


async def test_a_redis_that_is_away_is_told_when_it_is_there(valkey: "Valkey") -> None:
    valkey.kill()
    async with publisher() as source, feeding(valkey.url, a_worker(source)):
        await source.subscribed()
        await source.publish(stored(*CHAIN))
        await asyncio.sleep(0.2)
        valkey.start()

        await until(valkey.url, held(4))


async def test_a_worker_that_ends_while_redis_is_away_ends_all_the_same(
    valkey: "Valkey", caplog: pytest.LogCaptureFixture
) -> None:
    async with publisher() as source:
        await source.publish(stored(*CHAIN))
        async with feeding(valkey.url, a_worker(source)) as task:
            await until(valkey.url, held(4))
            valkey.kill()

    assert task.cancelled()
    assert "cannot leave the block directory" in caplog.text


async def test_who_is_fenced_says_so_and_harms_neither_its_worker_nor_the_next(
    valkey: "Valkey", caplog: pytest.LogCaptureFixture
) -> None:
    name = CHAIN[0].to_bytes(8, "big")
    async with publisher() as source, connect(valkey.url) as redis:
        newer = Rebuild(
            WorkerId("w"), Incarnation("2"), Position(1.0, 0), "t", True, True, False,
            (("GPU", name),),
        )  # fmt: skip
        await Directory(redis, "s").apply(newer)
        async with asyncio.timeout(WAIT_SECONDS):
            await feed_directory(valkey.url, a_worker(source))

    assert "not the newest" in caplog.text
    await until(valkey.url, held(1, incarnation="2"))


async def test_an_endpoint_that_is_no_address_harms_no_worker(
    valkey: "Valkey", caplog: pytest.LogCaptureFixture
) -> None:
    async with publisher() as source, asyncio.timeout(WAIT_SECONDS):
        wrong = msgspec.structs.replace(a_worker(source), kv_events="nowhere")
        await feed_directory(valkey.url, wrong)

    assert "cannot follow the KV events" in caplog.text


async def test_what_nobody_expected_of_the_feed_harms_no_worker(
    valkey: "Valkey", monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(feeder: Feeder) -> None:
        raise RuntimeError("who would have thought")

    monkeypatch.setattr(Feeder, "run", fail)
    async with publisher() as source, asyncio.timeout(WAIT_SECONDS):
        await feed_directory(valkey.url, a_worker(source))

    assert "not told any more" in caplog.text


async def test_without_events_or_without_redis_there_is_nothing_to_do(valkey: "Valkey") -> None:
    async with publisher() as source, asyncio.timeout(WAIT_SECONDS):
        await feed_directory(None, a_worker(source))
        await feed_directory(valkey.url, msgspec.structs.replace(a_worker(source), kv_events=""))


class Heard(list[Happening]):
    """What a follower has told, as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self._told = asyncio.Event()

    def hear(self, happening: Happening) -> None:
        self.append(happening)
        self._told.set()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self) < count:
                self._told.clear()
                await self._told.wait()


async def test_a_follower_tells_numbers_times_and_what_is_lost() -> None:
    heard = Heard()
    context = zmq.asyncio.Context()
    async with publisher(buffer_size=1) as source:
        endpoints = source_of(a_worker(source))
        assert endpoints is not None
        following = asyncio.create_task(Follower(context, endpoints, heard.hear).run())
        await heard.until(1)
        await source.publish(removal(0))
        await heard.until(2)
        await source.publish(removal(1), drop=True)
        await source.publish(removal(2), drop=True)
        await source.publish(removal(3))
        await heard.until(4)
        await source.publish_payload(b"\xc1")
        await source.send(b"strange")
        await heard.until(6)
        source.restart()
        await source.publish(removal(0))
        await heard.until(8)
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
    context.destroy(linger=0)

    def batch(number: int, at: float) -> Batch:
        return Batch(number, EventBatch(at, [BlockRemoved((number,), "GPU")]))

    assert heard == [
        Fresh.FRESH,
        *(batch(0, 1.0), Lost(2), batch(3, 4.0), Lost(4), Lost(None)),
        *(Restarted.RESTARTED, batch(0, 5.0)),
    ]


async def test_an_engine_that_does_not_replay_is_not_taken_for_a_fresh_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replaying, "SILENCE_SECONDS", 0.1)
    heard = Heard()
    context = zmq.asyncio.Context()
    async with publisher() as source:
        source.replays = False
        endpoints = source_of(a_worker(source))
        assert endpoints is not None
        following = asyncio.create_task(Follower(context, endpoints, heard.hear).run())
        await source.subscribed()
        await source.publish(removal(0))
        await heard.until(1)
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
    context.destroy(linger=0)

    assert heard == [Batch(0, EventBatch(1.0, [BlockRemoved((0,), "GPU")]))]
