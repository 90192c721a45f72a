"""The KV events of the workers, over real sockets."""

import asyncio
import contextlib
import importlib.util
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.kv_events import AllBlocksCleared, BlockRemoved, BlockStored, KvEvent
from twofold_cluster.kv_events.following import follower, replaying
from twofold_cluster.kv_events.following.testing import Publisher, publisher
from twofold_cluster.worker import Engine, Worker
from twofold_engine.kv_events import kv_events_config
from twofold_engine.settings import WorkerSettings
from twofold_router.kv_events import Followers
from twofold_router.placement.accounts import Life
from twofold_router.placement.interface import BlocksChange

WAIT_SECONDS = 20.0
IMPORT_SECONDS = 120.0

# Publishes one batch for each line that it reads.
VLLMS_PUBLISHER = """
import json, sys, time
from vllm.config.kv_events import KVEventsConfig
from vllm.distributed.kv_events import BlockStored, EventPublisherFactory, KVEventBatch
publisher = EventPublisherFactory.create(KVEventsConfig(**json.loads(sys.argv[1])))
config = publisher.get_publisher_config()
print(config.endpoint, config.replay_endpoint, flush=True)
for line in sys.stdin:
    first = int(line)
    stored = BlockStored(
        block_hashes=[first, first + 1], parent_block_hash=first - 1, token_ids=[5, 6, 7, 8],
        block_size=2, lora_id=None, medium="GPU", lora_name=None, extra_keys=[None, None],
        group_idx=0,
    )
    publisher.publish(KVEventBatch(ts=time.time(), events=[stored]))
publisher.shutdown()
"""


class Mirror:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.changes: list[tuple[Life, BlocksChange]] = []
        self.happenings: Counter[str] = Counter()
        self._told = asyncio.Event()

    def blocks_changed(self, life: Life, change: BlocksChange) -> None:
        self.changes.append((life, change))
        self._told.set()

    def note(self, happening: str) -> None:
        self.happenings[happening] += 1

    async def told(self, count: int) -> list[KvEvent | str]:
        """Wait for *count* things, and return all, each event by itself."""
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self._flat()) < count:
                self._told.clear()
                await self._told.wait()
        return self._flat()

    def _flat(self) -> list[KvEvent | str]:
        return [
            one
            for _, change in self.changes
            for one in ([change] if isinstance(change, str) else change)
        ]


@contextlib.asynccontextmanager
async def following_of(mirror: Mirror, *workers: Worker) -> AsyncIterator[Followers]:
    followers = Followers(mirror.blocks_changed, mirror.note)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(followers.run())
        followers.follow(workers, ())
        try:
            yield followers
        finally:
            running.cancel()


def a_worker(endpoint: str, replay_endpoint: str = "", incarnation: str = "1") -> Worker:
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
        kv_events=endpoint,
        kv_events_replay=replay_endpoint,
    )


def worker_of(source: Publisher, incarnation: str = "1") -> Worker:
    return a_worker(source.endpoint, source.replay_endpoint, incarnation)


def removal(block: int) -> dict[str, Any]:
    return {"type": "BlockRemoved", "block_hashes": [block], "medium": "GPU", "group_idx": 0}


def removed(*blocks: int) -> list[BlockRemoved]:
    return [BlockRemoved((block,), "GPU") for block in blocks]


async def test_events_in_both_encodings_come_in_order() -> None:
    mirror = Mirror()
    async with publisher() as source, following_of(mirror, worker_of(source)):
        await source.subscribed()
        await source.publish(removal(0), ["BlockRemoved", [1], "GPU"])
        await source.publish(["BlockMoved", "x"], ["AllBlocksCleared"])
        await source.publish(["BlockMoved", "y"])
        await source.publish(removal(2))
        told = await mirror.told(4)

    assert told == [*removed(0, 1), AllBlocksCleared(), *removed(2)]
    assert {life for life, _ in mirror.changes} == {("w", "1")}
    assert all(change for _, change in mirror.changes)


async def test_what_was_before_is_replayed() -> None:
    mirror = Mirror()
    async with publisher() as source:
        for block in range(3):
            await source.publish(removal(block))
        async with following_of(mirror, worker_of(source)):
            told = await mirror.told(3)

    assert told == removed(0, 1, 2)


async def test_a_gap_is_replayed_and_nothing_comes_twice() -> None:
    mirror = Mirror()
    async with publisher() as source, following_of(mirror, worker_of(source)):
        await source.subscribed()
        await source.publish(removal(0))
        await mirror.told(1)
        await source.publish(removal(1), drop=True)
        await source.publish(removal(2), drop=True)
        await source.publish(removal(3))
        await source.publish(removal(4))
        told = await mirror.told(5)

    assert told == removed(0, 1, 2, 3, 4)
    assert mirror.happenings == {"batch": 5, "replay": 2}


async def test_batches_that_came_with_a_replay_do_not_count_again() -> None:
    mirror = Mirror()
    async with publisher() as source, following_of(mirror, worker_of(source)):
        await source.subscribed()
        await source.publish(removal(0), drop=True)
        for block in range(1, 50):  # on their way while the replay is asked for
            await source.publish(removal(block))
        await mirror.told(50)
        await source.publish(removal(50))
        told = await mirror.told(51)

    assert told == removed(*range(51))


async def test_a_replay_that_loses_a_batch_on_its_way_is_asked_for_again() -> None:
    mirror = Mirror()
    async with publisher() as source:
        for block in range(5):
            await source.publish(removal(block))
        source.replay_drops = 2
        async with following_of(mirror, worker_of(source)):
            told = await mirror.told(5)

    assert told == removed(0, 1, 2, 3, 4)
    assert source.asked_for == [0, 1]


async def test_a_gap_that_the_publisher_no_longer_has_is_a_loss() -> None:
    mirror = Mirror()
    async with (
        publisher(buffer_size=2) as source,
        following_of(mirror, worker_of(source)),
    ):
        await source.subscribed()
        await source.publish(removal(0))
        await mirror.told(1)
        for block in range(1, 5):
            await source.publish(removal(block), drop=True)
        await source.publish(removal(5))
        told = await mirror.told(4)

    assert told == [*removed(0), "lost", *removed(4, 5)]
    assert mirror.happenings == {"batch": 3, "replay": 2, "loss": 1}


async def test_a_gap_without_a_replay_is_a_loss() -> None:
    mirror = Mirror()
    async with publisher() as source, following_of(mirror, a_worker(source.endpoint)):
        await source.subscribed()
        await source.publish(removal(0))
        await source.publish(removal(1), drop=True)
        await source.publish(removal(2))
        told = await mirror.told(3)

    assert told == [*removed(0), "lost", *removed(2)]


async def test_a_publisher_that_does_not_replay_costs_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replaying, "SILENCE_SECONDS", 0.1)
    mirror = Mirror()
    async with publisher() as source:
        source.replays = False
        async with following_of(mirror, worker_of(source)):
            await source.subscribed()
            await source.publish(removal(0), drop=True)
            await source.publish(removal(1))
            told = await mirror.told(2)

    assert told == ["lost", *removed(1)]
    assert source.asked_for == [0, 0]


async def test_a_replay_that_stops_on_its_way_is_asked_for_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replaying, "SILENCE_SECONDS", 0.1)
    mirror = Mirror()
    async with publisher() as source:
        for block in range(5):
            await source.publish(removal(block))
        source.replay_ends_before = 3
        async with following_of(mirror, worker_of(source)):
            told = await mirror.told(5)

    assert told == removed(0, 1, 2, 3, 4)
    assert source.asked_for == [0, 2]


async def test_an_engine_that_begins_anew_has_an_empty_cache() -> None:
    mirror = Mirror()
    async with publisher() as source, following_of(mirror, worker_of(source)):
        await source.subscribed()
        for block in range(3):
            await source.publish(removal(block))
        await mirror.told(3)
        source.restart()
        await source.publish(removal(7))
        await source.publish(removal(8))
        told = await mirror.told(6)

    assert told == [*removed(0, 1, 2), "restarted", *removed(7, 8)]
    assert mirror.happenings == {"batch": 5, "replay": 1, "restart": 1}


async def test_a_new_beginning_of_which_the_first_was_not_seen_is_replayed() -> None:
    mirror = Mirror()
    async with publisher() as source, following_of(mirror, worker_of(source)):
        await source.subscribed()
        for block in range(3):
            await source.publish(removal(block))
        await mirror.told(3)
        source.restart()
        await source.publish(removal(7), drop=True)
        await source.publish(removal(8))
        told = await mirror.told(6)

    assert told == [*removed(0, 1, 2), "restarted", *removed(7, 8)]


async def test_a_new_beginning_behind_a_gap_is_noticed() -> None:
    mirror = Mirror()
    async with publisher() as source, following_of(mirror, worker_of(source)):
        await source.subscribed()
        await source.publish(removal(0))
        await mirror.told(1)
        source.restart()
        for block in range(5, 8):
            await source.publish(removal(block), drop=True)
        await source.publish(removal(8))
        told = await mirror.told(6)

    assert told == [*removed(0), "restarted", *removed(5, 6, 7, 8)]


async def test_what_cannot_be_read_is_a_loss_and_the_rest_goes_on() -> None:
    mirror = Mirror()
    async with publisher() as source, following_of(mirror, worker_of(source)):
        await source.subscribed()
        await source.publish(removal(0))
        await mirror.told(1)
        await source.publish_payload(b"\xc1")
        await source.send(b"three", b"strange", b"frames")
        await source.publish(removal(1))
        told = await mirror.told(4)

    assert told == [*removed(0), "lost", "lost", *removed(1)]


async def test_what_cannot_be_read_is_lost_once_also_when_it_was_replayed() -> None:
    mirror = Mirror()
    async with publisher() as source, following_of(mirror, worker_of(source)):
        await source.subscribed()
        await source.publish(removal(0), drop=True)
        await source.publish(removal(1))
        await source.publish_payload(b"\xc1")
        await source.publish(removal(2))
        await mirror.told(4)
        await source.publish(removal(3))
        told = await mirror.told(5)

    assert told == [*removed(0, 1), "lost", *removed(2, 3)]


async def test_a_publisher_that_is_not_there_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replaying, "SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(follower, "MAX_RECONNECT_MILLISECONDS", 200)
    mirror = Mirror()
    async with publisher() as before:
        endpoint = before.endpoint
    async with following_of(mirror, a_worker(endpoint)):
        await asyncio.sleep(0.5)
        async with publisher(port=int(endpoint.rpartition(":")[2])) as source:
            async with asyncio.timeout(WAIT_SECONDS):
                await source.subscribed()
            await source.publish(removal(0))
            told = await mirror.told(1)

    assert told == removed(0)


async def test_a_new_incarnation_is_followed_instead_of_the_old_one() -> None:
    mirror = Mirror()
    async with (
        publisher() as old,
        publisher() as new,
        following_of(mirror, worker_of(old, "1")) as followers,
        asyncio.timeout(WAIT_SECONDS),
    ):
        await old.subscribed()
        await old.publish(removal(0))
        await mirror.told(1)
        followers.follow([worker_of(new, "2")], ())
        await new.subscribed()
        await old.unsubscribed()
        await new.publish(removal(1))
        await mirror.told(2)

    assert mirror.changes == [(("w", "1"), removed(0)), (("w", "2"), removed(1))]


async def test_a_worker_that_has_gone_is_no_longer_followed() -> None:
    mirror = Mirror()
    async with publisher() as source:
        worker = worker_of(source)
        async with following_of(mirror, worker) as followers, asyncio.timeout(WAIT_SECONDS):
            await source.subscribed()
            followers.follow((), [worker])
            await source.unsubscribed()


async def test_a_worker_that_comes_back_is_followed_from_its_beginning() -> None:
    mirror = Mirror()
    async with publisher() as source:
        worker = worker_of(source)
        async with following_of(mirror, worker) as followers:
            await source.subscribed()
            await source.publish(removal(0))
            await mirror.told(1)
            followers.follow((), [worker])
            followers.follow([worker], ())
            told = await mirror.told(2)

    assert told == removed(0, 0)


async def test_a_worker_that_changes_otherwise_is_followed_on() -> None:
    mirror = Mirror()
    async with publisher() as source:
        worker = worker_of(source)
        async with following_of(mirror, worker) as followers:
            await source.subscribed()
            await source.publish(removal(0))
            await mirror.told(1)
            followers.follow([msgspec.structs.replace(worker, role=Role.DECODE)], ())
            await source.publish(removal(1))
            told = await mirror.told(2)

    assert told == removed(0, 1)
    assert source.asked_for == [0]


async def test_an_endpoint_that_is_no_address_harms_no_other_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    mirror = Mirror()
    async with publisher() as source:
        wrong = msgspec.structs.replace(a_worker("nowhere"), worker_id=WorkerId("wrong"))
        async with following_of(mirror, wrong, worker_of(source)):
            await source.subscribed()
            await source.publish(removal(0))
            told = await mirror.told(1)

    assert told == removed(0)
    assert "cannot follow" in caplog.text


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="needs vLLM")
async def test_vllms_own_publisher_is_followed_as_we_have_set_it_up() -> None:
    settings = WorkerSettings(
        service="s", worker_id=WorkerId("w"), role=Role.PREFILL, model="m", served_name="m"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", VLLMS_PUBLISHER, json.dumps(kv_events_config(settings))),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "VLLM_HOST_IP": settings.host},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    mirror = Mirror()
    try:
        async with asyncio.timeout(IMPORT_SECONDS):
            line = b""
            while not line.startswith(b"tcp://"):
                line = await process.stdout.readline()
        endpoint, replay_endpoint = line.decode().split()
        process.stdin.write(b"10\n20\n")
        async with following_of(mirror, a_worker(endpoint, replay_endpoint)):
            await mirror.told(2)
            process.stdin.write(b"30\n")
            told = await mirror.told(3)
    finally:
        process.stdin.close()
        await process.wait()

    assert endpoint.startswith("tcp://127.0.0.1:")
    assert told == [BlockStored((n, n + 1), n - 1, 4, 2, "GPU") for n in (10, 20, 30)]
