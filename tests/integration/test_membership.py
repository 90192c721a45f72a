"""Announcers and followers against a real Valkey, which is killed where the claim needs it."""

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from redis.asyncio import Redis

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.membership import (
    MIN_GAP_SECONDS,
    SNAPSHOT_INTERVAL_SECONDS,
    TTL_SECONDS,
    Announcer,
    FencedError,
    Roster,
    connect,
    read_workers,
    withdraw,
)
from twofold_cluster.worker import Engine, Gone, Load, Worker

if TYPE_CHECKING:
    from tests.integration.conftest import Valkey

SERVICE = "qwen"
CHANNEL = "twofold:{qwen}:changes"

# Announces until it is killed, on the server that its first argument names.
WORKER_PROCESS = """
import asyncio, sys, msgspec
from twofold_cluster.membership import Announcer, connect
from twofold_cluster.worker import Worker
worker = msgspec.json.decode(sys.argv[2], type=Worker)
announcer = Announcer(connect(sys.argv[1]), worker, ttl_seconds=float(sys.argv[3]))
asyncio.run(asyncio.wait_for(announcer.run(), 60))
"""


def a_worker(name: str = "worker-0", incarnation: str = "1", service: str = SERVICE) -> Worker:
    return Worker(
        worker_id=WorkerId(name),
        incarnation=Incarnation(incarnation),
        service=service,
        role=Role.BOTH,
        revision="1",
        address="http://127.0.0.1:1",
        model="model",
        engine=Engine(version="0", compatibility="a"),
        kv_capacity_tokens=1000,
        kv_block_tokens=16,
        max_model_tokens=1000,
    )


def with_running(worker: Worker, count: int) -> Worker:
    return msgspec.structs.replace(worker, load=Load(running_count=count))


@pytest.fixture
async def redis(valkey: "Valkey") -> AsyncIterator[Redis]:
    async with connect(valkey.url) as client:
        yield client


@asynccontextmanager
async def running(
    *coroutines: Coroutine[Any, Any, None],
) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Run *coroutines* during the block, and cancel them at its end."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(coroutine) for coroutine in coroutines]
        yield tasks
        for task in tasks:
            task.cancel()


async def until(condition: Callable[[], bool], *, seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


async def test_a_follower_sees_the_workers_that_announce_themselves(redis: Redis) -> None:
    first, second = a_worker("worker-0"), a_worker("worker-1")
    roster = Roster(redis, SERVICE)

    async with running(roster.run(), Announcer(redis, first).run(), Announcer(redis, second).run()):
        await until(lambda: len(roster.workers) == 2 and not roster.stale)

        assert roster.workers == {"worker-0": first, "worker-1": second}


async def test_a_follower_that_comes_later_sees_who_is_there(redis: Redis) -> None:
    worker = a_worker()
    roster = Roster(redis, SERVICE)

    async with running(Announcer(redis, worker).run()):
        await asyncio.sleep(0.2)
        async with running(roster.run()):
            await until(lambda: bool(roster.workers), seconds=0.5)

            assert roster.workers == {"worker-0": worker}


async def test_what_is_delivered_can_be_read(redis: Redis) -> None:
    announcer = Announcer(redis, a_worker())

    async with running(announcer.run()):
        for count in range(5):
            changed = with_running(announcer.worker, count)
            announcer.update(changed)
            async with asyncio.timeout(60):
                await announcer.delivered()

            assert await read_workers(redis, SERVICE) == [changed]


async def test_nothing_is_delivered_while_redis_is_away(redis: Redis, valkey: "Valkey") -> None:
    announcer = Announcer(redis, a_worker())

    async with running(announcer.run()):
        async with asyncio.timeout(60):
            await announcer.delivered()
        valkey.kill()
        announcer.update(with_running(announcer.worker, 1))
        delivery = asyncio.create_task(announcer.delivered())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.shield(delivery)
        valkey.start()

        async with asyncio.timeout(60):
            await delivery


async def test_a_load_change_reaches_a_follower_before_it_reads_again(redis: Redis) -> None:
    announcer = Announcer(redis, a_worker())
    roster = Roster(redis, SERVICE)
    delays = []

    async with running(roster.run(), announcer.run()):
        await until(lambda: bool(roster.workers))
        for count in range(1, 8):
            await asyncio.sleep(2 * MIN_GAP_SECONDS)
            changed_at = time.monotonic()
            announcer.update(with_running(announcer.worker, count))
            await until(lambda: roster.workers == {"worker-0": announcer.worker})
            delays.append(time.monotonic() - changed_at)

    assert statistics.median(delays) < SNAPSHOT_INTERVAL_SECONDS / 5


async def test_load_goes_out_at_most_every_50_ms_and_its_last_value_arrives(redis: Redis) -> None:
    announcer = Announcer(redis, a_worker())
    roster = Roster(redis, SERVICE)
    published: list[bytes] = []

    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(CHANNEL)
        async with running(roster.run(), announcer.run(), _collect(pubsub, published)):
            await until(lambda: bool(roster.workers))
            began_at = time.monotonic()
            published.clear()
            for count in range(1, 200):
                announcer.update(with_running(announcer.worker, count))
                await asyncio.sleep(0.005)
            await until(lambda: roster.workers[WorkerId("worker-0")].load.running_count == 199)
            elapsed_seconds = time.monotonic() - began_at

            assert 5 < len(published) <= elapsed_seconds / MIN_GAP_SECONDS + 1


async def test_a_worker_whose_announcer_is_cancelled_withdraws_at_once(redis: Redis) -> None:
    roster = Roster(redis, SERVICE)

    async with running(roster.run(), Announcer(redis, a_worker()).run()) as (_, announcing):
        await until(lambda: bool(roster.workers))
        announcing.cancel()
        await until(lambda: not roster.workers, seconds=TTL_SECONDS / 3)

        assert await read_workers(redis, SERVICE) == []


async def test_a_worker_that_is_killed_vanishes_within_its_time_limit(
    valkey: "Valkey", redis: Redis
) -> None:
    ttl_seconds = 0.9
    roster = Roster(redis, SERVICE, ttl_seconds=ttl_seconds)
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER_PROCESS, valkey.url, _encoded(a_worker()), str(ttl_seconds)]
    )

    try:
        async with running(roster.run()):
            await until(lambda: bool(roster.workers), seconds=20)
            process.kill()
            killed_at = time.monotonic()
            await until(lambda: not roster.workers)
            elapsed_seconds = time.monotonic() - killed_at
    finally:
        process.kill()
        process.wait()

    assert elapsed_seconds < ttl_seconds + SNAPSHOT_INTERVAL_SECONDS + 0.5


async def test_a_short_time_limit_is_kept_alive(redis: Redis) -> None:
    ttl_seconds = 0.3
    roster = Roster(redis, SERVICE, ttl_seconds=ttl_seconds)

    async with running(roster.run(), Announcer(redis, a_worker(), ttl_seconds=ttl_seconds).run()):
        await until(lambda: bool(roster.workers))
        counts = []
        for _ in range(40):
            await asyncio.sleep(0.03)
            counts.append(len(await read_workers(redis, SERVICE)))

    assert set(counts) == {1}


async def test_a_new_incarnation_fences_the_old_one(redis: Redis) -> None:
    old, new = a_worker(incarnation="1"), a_worker(incarnation="2")
    roster = Roster(redis, SERVICE)

    async with running(roster.run()):
        old_life = asyncio.create_task(Announcer(redis, old).run())
        await until(lambda: roster.workers == {"worker-0": old})
        async with running(Announcer(redis, new).run()):
            with pytest.raises(FencedError, match="worker-0"):
                await asyncio.wait_for(old_life, 5)

            assert roster.workers == {"worker-0": new}
            assert await read_workers(redis, SERVICE) == [new]


async def test_what_a_fenced_incarnation_still_says_is_ignored(redis: Redis) -> None:
    old, new = a_worker(incarnation="1"), a_worker(incarnation="2")
    last = a_worker("worker-1")
    seen: list[Worker | None] = []
    roster = Roster(
        redis, SERVICE, on_change=lambda *_: seen.append(roster.workers.get(new.worker_id))
    )

    async with running(roster.run(), Announcer(redis, new).run()):
        await until(lambda: bool(roster.workers))
        await redis.publish(CHANNEL, _encoded(old))
        await redis.publish(CHANNEL, _encoded(last))
        await until(lambda: last.worker_id in roster.workers)

        assert set(seen) == {new}


async def test_the_withdrawal_of_an_old_incarnation_leaves_the_new_one(redis: Redis) -> None:
    old, new = a_worker(incarnation="1"), a_worker(incarnation="2")
    roster = Roster(redis, SERVICE)

    async with running(roster.run(), Announcer(redis, new).run()):
        await until(lambda: bool(roster.workers))
        await withdraw(redis, SERVICE, Gone(worker_id=old.worker_id, incarnation=old.incarnation))

        assert await read_workers(redis, SERVICE) == [new]
        assert roster.workers == {"worker-0": new}


async def test_an_incarnation_that_was_withdrawn_cannot_come_back_but_its_successor_can(
    redis: Redis,
) -> None:
    buried, next_life = a_worker(incarnation="1"), a_worker(incarnation="2")
    gone = Gone(worker_id=buried.worker_id, incarnation=buried.incarnation)
    async with running(Announcer(redis, buried).run()):
        await until_announced(redis, buried)
    await withdraw(redis, SERVICE, gone)

    with pytest.raises(FencedError):
        async with asyncio.timeout(5):
            await Announcer(redis, buried).run()
    async with running(Announcer(redis, next_life).run()):
        await until_announced(redis, next_life)


async def until_announced(redis: Redis, worker: Worker) -> None:
    async with asyncio.timeout(5):
        while await read_workers(redis, SERVICE) != [worker]:
            await asyncio.sleep(0.01)


async def test_a_follower_keeps_what_it_knows_while_valkey_is_away(
    valkey: "Valkey", redis: Redis
) -> None:
    ttl_seconds = 0.3
    worker = a_worker()
    roster = Roster(redis, SERVICE, ttl_seconds=ttl_seconds)

    async with running(roster.run(), Announcer(redis, worker, ttl_seconds=ttl_seconds).run()):
        await until(lambda: bool(roster.workers) and not roster.stale)
        valkey.kill()
        await until(lambda: roster.stale)
        await asyncio.sleep(4 * ttl_seconds)

        assert roster.workers == {"worker-0": worker}
        assert roster.stale


# With the longer limit the worker notices last: the follower reads an empty Valkey before.
@pytest.mark.parametrize(("ttl_seconds", "away_seconds"), [(4.5, 0.0), (1.5, 1.5)])
async def test_workers_come_back_to_an_empty_valkey_without_ever_vanishing(
    valkey: "Valkey", redis: Redis, ttl_seconds: float, away_seconds: float
) -> None:
    worker = a_worker()
    seen: list[set[WorkerId]] = []
    roster = Roster(
        redis,
        SERVICE,
        ttl_seconds=ttl_seconds,
        on_change=lambda *_: seen.append(set(roster.workers)),
    )

    async with connect(valkey.url) as redis_of_worker:
        announcer = Announcer(redis_of_worker, worker, ttl_seconds=ttl_seconds)
        async with running(roster.run(), announcer.run()):
            await until(lambda: bool(roster.workers) and not roster.stale)
            valkey.kill()
            await asyncio.sleep(away_seconds)
            valkey.start()
            await until(lambda: roster.stale)
            await until(lambda: not roster.stale)
            await asyncio.sleep(ttl_seconds / 3 + 3 * SNAPSHOT_INTERVAL_SECONDS)

            assert await read_workers(redis, SERVICE) == [worker]
            assert roster.workers == {"worker-0": worker}
            assert all(names == {"worker-0"} for names in seen)


async def test_a_worker_that_died_while_valkey_was_away_is_forgotten(
    valkey: "Valkey", redis: Redis
) -> None:
    ttl_seconds = 0.6
    alive, dying = a_worker("worker-0"), a_worker("worker-1")
    roster = Roster(redis, SERVICE, ttl_seconds=ttl_seconds)

    async with running(
        roster.run(),
        Announcer(redis, alive, ttl_seconds=ttl_seconds).run(),
        Announcer(redis, dying, ttl_seconds=ttl_seconds).run(),
    ) as (_, _, last_life):
        await until(lambda: len(roster.workers) == 2 and not roster.stale)
        valkey.kill()
        await until(lambda: roster.stale)
        last_life.cancel()
        valkey.start()
        await until(lambda: not roster.stale)
        await until(lambda: len(roster.workers) == 1)

        assert roster.workers == {"worker-0": alive}


async def test_two_services_do_not_see_each_other(redis: Redis) -> None:
    ours, theirs = a_worker("worker-0", service="ours"), a_worker("worker-1", service="theirs")
    seen: list[set[WorkerId]] = []
    our_roster = Roster(redis, "ours", on_change=lambda *_: seen.append(set(our_roster.workers)))
    their_roster = Roster(
        redis, "theirs", on_change=lambda *_: seen.append(set(their_roster.workers))
    )

    async with running(
        our_roster.run(),
        their_roster.run(),
        Announcer(redis, ours).run(),
        Announcer(redis, theirs).run(),
    ):
        await until(lambda: bool(our_roster.workers) and bool(their_roster.workers))
        await asyncio.sleep(3 * SNAPSHOT_INTERVAL_SECONDS)

        assert our_roster.workers == {"worker-0": ours}
        assert their_roster.workers == {"worker-1": theirs}
        assert len(seen) == 2
        assert await read_workers(redis, "ours") == [ours]


async def test_a_worker_that_this_version_cannot_read_blinds_no_follower(redis: Redis) -> None:
    newer = msgspec.json.decode(_encoded(a_worker("worker-1"))) | {"role": "encode"}
    await redis.sadd(f"twofold:{{{SERVICE}}}:workers", "worker-1")
    await redis.hset(
        f"twofold:{{{SERVICE}}}:worker:worker-1",
        mapping={"incarnation": "1", "entry": msgspec.json.encode(newer)},
    )
    worker = a_worker()
    roster = Roster(redis, SERVICE)

    async with running(roster.run()):
        await until(lambda: not roster.stale)
        await redis.publish(CHANNEL, msgspec.json.encode(newer))
        await redis.publish(CHANNEL, b"not even JSON")
        async with running(Announcer(redis, worker).run()):
            await until(lambda: bool(roster.workers))

            assert roster.workers == {"worker-0": worker}


async def test_a_cancellation_ends_a_read_at_whatever_step_it_arrives(valkey: "Valkey") -> None:
    results: list[object] = []

    for step_count in range(12):
        async with connect(valkey.url) as redis:
            reading = asyncio.create_task(read_workers(redis, SERVICE))
            for _ in range(step_count):
                await asyncio.sleep(0)
            assert not reading.done()
            reading.cancel()
            results += await asyncio.gather(reading, return_exceptions=True)

    assert {type(result) for result in results} == {asyncio.CancelledError}


async def test_a_follower_ends_though_its_connection_breaks_as_it_is_cancelled(
    redis: Redis, valkey: "Valkey"
) -> None:
    roster = Roster(redis, SERVICE)

    for step_count in range(40):
        following = asyncio.create_task(roster.run())
        await until(lambda: not roster.stale)
        async with connect(valkey.url) as other:
            await other.client_kill_filter(_type="pubsub")
        for _ in range(step_count):
            await asyncio.sleep(0)
        following.cancel()
        done, _ = await asyncio.wait([following], timeout=2)

        assert done
        assert following.cancelled()


async def _collect(pubsub: Any, messages: list[bytes]) -> None:
    while True:
        message = await pubsub.get_message(timeout=1.0)
        if message is not None:
            messages.append(message["data"])


def _encoded(worker: Worker) -> bytes:
    return msgspec.json.encode(worker)
