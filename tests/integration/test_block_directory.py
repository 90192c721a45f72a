"""The block directory against a real Valkey, which is killed where the claim needs it."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from redis.asyncio import Redis

from twofold_cluster.identity import Incarnation, WorkerId
from twofold_cluster.kv_events import Batch, BlockStored, EventBatch, Happening, KvEvent, Lost
from twofold_cluster.membership import FencedError, connect
from twofold_cluster.membership.entries import REDIS_IS_AWAY, awaited
from twofold_kvtransfer.directory import (
    Answer,
    Directory,
    DirectorySettings,
    DirectoryUpdate,
    Feeder,
    FeedSnapshot,
    Holding,
    Position,
    Rebuild,
    Verdict,
)
from twofold_kvtransfer.directory.directory import BLOCKS_PER_FIND
from twofold_kvtransfer.directory.feeder import REPAIR_GAP_SECONDS
from twofold_kvtransfer.directory.names import block_name

if TYPE_CHECKING:
    from tests.integration.conftest import Valkey

SERVICE = "qwen"
ROOT = "twofold:{qwen}:kv:"
W0, W1 = WorkerId("worker-0"), WorkerId("worker-1")
LIFE = Incarnation("1")
NEXT_LIFE = Incarnation("2")
CHAIN = [number.to_bytes(32, "big") for number in range(1, 9)]
NAMES = [block[-16:] for block in CHAIN]


@pytest.fixture
async def redis(valkey: "Valkey") -> AsyncIterator[Redis]:
    async with connect(valkey.url) as client:
        yield client


@pytest.fixture
def directory(redis: Redis) -> Directory:
    return Directory(redis, SERVICE)


def at(number: int) -> Position:
    return Position(1000.0 + number / 3, number)


def gpu(names: Sequence[bytes]) -> tuple[tuple[str, bytes], ...]:
    return tuple(("GPU", name) for name in names)


def update(first: int, last: int | None = None, **changes: Any) -> DirectoryUpdate:
    values = {"worker_id": W0, "incarnation": LIFE, "position": at(first if last is None else last)}
    return DirectoryUpdate(first=first, **{**values, **changes})


def rebuild(number: int = -1, **changes: Any) -> Rebuild:
    values = {
        "worker_id": W0,
        "incarnation": LIFE,
        "position": at(number),
        "token": "t",
        "is_first_part": True,
        "is_last_part": True,
        "degrades": False,
    }
    return Rebuild(**{**values, **changes})


def held(count: int, worker: WorkerId = W0, **changes: Any) -> Holding:
    values = {"incarnation": LIFE, "tier": "GPU", "degraded": False}
    return Holding(worker_id=worker, block_count=count, **{**values, **changes})


async def begin(directory: Directory, *names: bytes, worker: WorkerId = W0) -> None:
    answer = await directory.apply(rebuild(worker_id=worker, stored=gpu(names)))
    assert answer == Answer(Verdict.APPLIED, False, 0)


async def test_who_has_the_longest_prefix_comes_first(directory: Directory) -> None:
    await begin(directory, *NAMES[:3])
    await begin(directory, *NAMES[:5], worker=W1)

    assert await directory.find(CHAIN) == [held(5, W1), held(3)]


async def test_each_worker_is_counted_to_its_first_gap(directory: Directory) -> None:
    await begin(directory, *NAMES)
    await directory.apply(update(0, removed=gpu([NAMES[2]])))

    assert await directory.find(CHAIN) == [held(2)]
    assert await directory.find(CHAIN[3:]) == [held(5)]


async def test_tiers_are_counted_apart(directory: Directory) -> None:
    await directory.apply(
        rebuild(stored=gpu(NAMES[:1]) + tuple(("CPU", name) for name in NAMES[:4]))
    )

    assert await directory.find(CHAIN) == [held(4, tier="CPU"), held(1)]


async def test_a_chain_longer_than_a_round_trip_is_followed_to_its_end(
    directory: Directory,
) -> None:
    chain = [number.to_bytes(16, "big") for number in range(1, 2 * BLOCKS_PER_FIND)]
    await begin(directory, *chain)
    await begin(directory, *chain[: BLOCKS_PER_FIND + 1], worker=W1)

    assert await directory.find(chain) == [held(len(chain)), held(BLOCKS_PER_FIND + 1, W1)]


async def test_integer_hashes_are_found(directory: Directory) -> None:
    blocks = [2**64 - 1, 7]
    await begin(directory, *map(block_name, blocks))

    assert await directory.find(blocks) == [held(2)]


async def test_two_services_do_not_see_each_other(redis: Redis, directory: Directory) -> None:
    await begin(directory, *NAMES)

    assert await Directory(redis, "other").find(CHAIN) == []


async def test_a_new_incarnation_takes_everything_from_the_old_one_at_once(
    directory: Directory,
) -> None:
    await begin(directory, *NAMES)
    await directory.apply(rebuild(incarnation=NEXT_LIFE, position=at(-10), degrades=True))

    assert await directory.find(CHAIN) == []


async def test_a_late_word_of_the_old_incarnation_is_refused(directory: Directory) -> None:
    await begin(directory, *NAMES)
    await directory.apply(rebuild(incarnation=NEXT_LIFE))

    for late in (update(0, stored=gpu(NAMES)), rebuild(9, stored=gpu(NAMES))):
        assert (await directory.apply(late)).verdict is Verdict.FENCED
    assert await directory.find(CHAIN) == []


async def test_what_is_told_twice_counts_once(directory: Directory) -> None:
    await begin(directory)
    await directory.apply(update(0, stored=gpu(NAMES[:4])))
    await directory.apply(update(1, removed=gpu(NAMES[2:4])))

    again = await directory.apply(update(0, stored=gpu(NAMES[:4])))

    assert again.verdict is Verdict.KNOWN
    assert await directory.find(CHAIN) == [held(2)]
    assert await directory.holding_count() == 2


async def test_updates_of_two_feeders_may_overlap(directory: Directory) -> None:
    await begin(directory)
    await directory.apply(update(0, 3, stored=gpu(NAMES[:3])))

    answer = await directory.apply(update(2, 5, removed=gpu([NAMES[1]])))

    assert answer == Answer(Verdict.APPLIED, False, 0)
    assert await directory.find(CHAIN) == [held(1)]


async def test_a_gap_drops_what_was_known_and_degrades(directory: Directory) -> None:
    await begin(directory, *NAMES)

    answer = await directory.apply(update(1, stored=gpu(NAMES[:2])))

    assert answer == Answer(Verdict.APPLIED, True, 0)
    assert await directory.find(CHAIN) == [held(2, degraded=True)]


async def test_a_clear_heals_what_a_gap_has_degraded(directory: Directory) -> None:
    await begin(directory, *NAMES)
    await directory.apply(update(1, stored=gpu(NAMES[:2])))
    await directory.apply(update(2, clears=True, stored=gpu(NAMES[:1])))

    assert await directory.find(CHAIN) == [held(1)]


async def test_a_rebuild_heals_what_a_gap_has_degraded(directory: Directory) -> None:
    await begin(directory)
    await directory.apply(update(1))
    await directory.apply(rebuild(1, stored=gpu(NAMES[:3])))

    assert await directory.find(CHAIN) == [held(3)]


async def test_another_life_of_the_engine_cannot_be_added_to_the_one_before(
    directory: Directory,
) -> None:
    await begin(directory)
    await directory.apply(update(0, 5, stored=gpu(NAMES)))

    answer = await directory.apply(update(0, position=Position(2000.0, 2)))

    assert answer.verdict is Verdict.UNKNOWN


async def test_what_an_earlier_life_of_the_engine_has_said_comes_too_late(
    directory: Directory,
) -> None:
    await directory.apply(rebuild(position=Position(2000.0, 0)))

    for late in (update(1, stored=gpu(NAMES)), rebuild(5, stored=gpu(NAMES))):
        assert (await directory.apply(late)).verdict is Verdict.KNOWN
    assert await directory.find(CHAIN) == []


async def test_a_change_may_come_in_parts(directory: Directory) -> None:
    await begin(directory, *NAMES)
    for start in (1, 5):  # the second after a gap
        parts = [
            update(start, start + 2, clears=start == 1, stored=gpu(NAMES[:2]), is_last_part=False),
            update(start, start + 2, stored=gpu(NAMES[2:4])),
        ]

        for part in parts:
            assert (await directory.apply(part)).verdict is Verdict.APPLIED
        assert await directory.find(CHAIN) == [held(4, degraded=start == 5)]


async def test_while_one_feeder_rebuilds_others_wait_and_what_is_there_is_degraded(
    directory: Directory,
) -> None:
    first = rebuild(stored=gpu(NAMES[:2]), is_last_part=False)
    last = rebuild(stored=gpu(NAMES[2:4]), is_first_part=False)
    await directory.apply(first)

    assert await directory.find(CHAIN) == [held(2, degraded=True)]
    assert (await directory.apply(update(0))).verdict is Verdict.BUSY
    assert (await directory.apply(rebuild(token="other"))).verdict is Verdict.BUSY
    assert (await directory.apply(last)).verdict is Verdict.APPLIED
    assert await directory.find(CHAIN) == [held(4)]


async def test_a_rebuild_that_is_given_up_makes_room_for_another(redis: Redis) -> None:
    directory = Directory(redis, SERVICE, DirectorySettings(rebuild_lock_seconds=0.05))
    await directory.apply(rebuild(stored=gpu(NAMES), is_last_part=False))
    await asyncio.sleep(0.1)

    assert (await directory.apply(update(0))).verdict is Verdict.UNKNOWN
    other = rebuild(token="other", stored=gpu(NAMES[:1]))
    assert (await directory.apply(other)).verdict is Verdict.APPLIED
    late = rebuild(stored=gpu(NAMES), is_first_part=False)
    assert (await directory.apply(late)).verdict is Verdict.SUPERSEDED
    assert await directory.find(CHAIN) == [held(1)]


async def test_only_some_rebuild_at_once(redis: Redis) -> None:
    directory = Directory(redis, SERVICE, DirectorySettings(max_rebuilds=1))
    begun = rebuild(is_last_part=False)
    other = rebuild(worker_id=W1, is_last_part=False)
    await directory.apply(begun)

    assert (await directory.apply(other)).verdict is Verdict.BUSY
    await directory.apply(rebuild(is_first_part=False))
    assert (await directory.apply(other)).verdict is Verdict.APPLIED


async def test_beyond_its_bound_the_directory_takes_no_more_and_says_so(redis: Redis) -> None:
    directory = Directory(redis, SERVICE, DirectorySettings(max_holdings=6))
    await begin(directory, *NAMES[:4])
    await begin(directory, worker=W1)

    answer = await directory.apply(update(0, worker_id=W1, stored=gpu(NAMES[:3])))

    assert answer == Answer(Verdict.APPLIED, True, 1)
    assert await directory.holding_count() == 6
    assert await directory.find(CHAIN) == [held(4), held(2, W1, degraded=True)]


async def test_a_rebuild_beyond_the_bound_stays_degraded(redis: Redis) -> None:
    directory = Directory(redis, SERVICE, DirectorySettings(max_holdings=3))

    await directory.apply(rebuild(stored=gpu(NAMES[:4]), is_last_part=False))
    answer = await directory.apply(rebuild(is_first_part=False))

    assert answer == Answer(Verdict.APPLIED, True, 0)


async def test_a_worker_that_nobody_speaks_of_holds_nothing_after_its_time(redis: Redis) -> None:
    directory = Directory(redis, SERVICE, DirectorySettings(ttl_seconds=2.0))
    await begin(directory, *NAMES)
    await begin(directory, *NAMES, worker=W1)
    for number in range(6):
        await asyncio.sleep(0.4)
        await directory.apply(update(number, worker_id=W1))

    assert await directory.find(CHAIN) == [held(8, W1)]
    assert await directory.position(W1, LIFE) == at(5)


async def test_who_is_gone_without_a_word_is_swept_out_of_memory(redis: Redis) -> None:
    settings = DirectorySettings(ttl_seconds=0.1, shards_per_sweep=1 << 16)
    directory = Directory(redis, SERVICE, settings)
    await begin(directory, *NAMES)
    await asyncio.sleep(0.2)
    while await directory.sweep("a") == "more":
        pass

    assert await directory.holding_count() == 0
    assert (await directory.apply(update(0))).verdict is Verdict.UNKNOWN


async def test_an_incarnation_that_was_forgotten_cannot_come_back_but_its_successor_can(
    directory: Directory,
) -> None:
    await begin(directory, *NAMES)
    await directory.forget(W0, LIFE)

    assert await directory.find(CHAIN) == []
    assert (await directory.apply(rebuild(5))).verdict is Verdict.FENCED
    assert (await directory.apply(rebuild(incarnation=NEXT_LIFE))).verdict is Verdict.APPLIED


async def test_who_forgets_an_old_incarnation_leaves_the_new_one(directory: Directory) -> None:
    await directory.apply(rebuild(incarnation=NEXT_LIFE, stored=gpu(NAMES)))
    await directory.forget(W0, LIFE)

    assert await directory.find(CHAIN) == [held(8, incarnation=NEXT_LIFE)]


async def test_what_is_dropped_is_swept_out_of_memory_and_nothing_else(redis: Redis) -> None:
    directory = Directory(redis, SERVICE, DirectorySettings(shards_per_sweep=1 << 16))
    await begin(directory, *NAMES[:5])
    await begin(directory, *NAMES[:3], worker=W1)
    await directory.sweep("a")
    await directory.apply(update(0, clears=True, stored=gpu(NAMES[:2])))
    assert await directory.holding_count() == 10

    assert [await directory.sweep("a") for _ in range(2)] == ["more", "idle"]

    assert await directory.holding_count() == 5
    assert len(await redis.keys(f"{ROOT}blocks:*")) == 3
    assert await directory.find(CHAIN) == [held(3, W1), held(2)]


async def test_one_sweeps_at_a_time(directory: Directory) -> None:
    await begin(directory, *NAMES)
    await directory.sweep("a")
    await directory.apply(update(0, clears=True))

    assert [await directory.sweep(name) for name in "aba"] == ["more", "busy", "more"]


async def test_any_number_of_holders_is_kept_as_it_is_told(redis: Redis) -> None:
    rng = random.Random(7)
    directory = Directory(redis, SERVICE, DirectorySettings(shards_per_sweep=1 << 16))
    workers = [WorkerId(f"worker-{number:02}") for number in range(60)]
    holds: dict[WorkerId, set[bytes]] = {worker: set() for worker in workers}
    for worker in workers:
        await begin(directory, worker=worker)
    for number in range(12):
        share = rng.choice([0.1, 0.5, 0.9])
        for worker in workers:
            new = {name for name in NAMES if rng.random() < share}
            change = update(
                number,
                worker_id=worker,
                removed=gpu(sorted(holds[worker] - new)),
                stored=gpu(sorted(new)),
                clears=rng.random() < 0.1,
            )
            holds[worker] = new
            await directory.apply(change)
        if number % 3 == 0:
            while await directory.sweep("a") == "more":
                pass
        for name in NAMES:
            found = await directory.find([name])
            assert [holding.worker_id for holding in found] == [
                worker for worker in workers if name in holds[worker]
            ]

    while await directory.sweep("a") == "more":
        pass
    assert await directory.holding_count() == sum(map(len, holds.values()))
    for worker in workers:
        await directory.apply(update(12, worker_id=worker, removed=gpu(NAMES)))
    assert await redis.keys(f"{ROOT}blocks:*") == []
    assert await redis.keys(f"{ROOT}wide:*") == []


async def test_a_shard_stays_packed_however_many_have_a_block_of_it(
    redis: Redis, directory: Directory
) -> None:
    key = f"{ROOT}blocks:{int.from_bytes(NAMES[0][-2:], 'big')}"
    workers = [WorkerId(f"worker-{number}") for number in range(60)]
    encodings = set()
    for worker in workers:
        await begin(directory, NAMES[0], worker=worker)
        encodings.add(await awaited(redis.object("ENCODING", key)))
    for worker in workers[1:]:
        await directory.apply(update(0, worker_id=worker, removed=gpu(NAMES[:1])))
        encodings.add(await awaited(redis.object("ENCODING", key)))

    assert encodings == {b"listpack"}


class Events:
    """A source that says what it is given, and then waits."""

    def __init__(self, *happenings: Happening) -> None:
        self._queue: asyncio.Queue[Happening] = asyncio.Queue()
        for happening in happenings:
            self.say(happening)

    def say(self, happening: Happening) -> None:
        self._queue.put_nowait(happening)

    async def follow(self, hear: Callable[[Happening], None]) -> None:
        while True:
            hear(await self._queue.get())


def a_batch(number: int, *names: bytes) -> Batch:
    events: list[KvEvent] = [BlockStored(names, None, len(names), 1, "GPU")]
    return Batch(number, EventBatch(at(number).at, events))


@asynccontextmanager
async def feeding(*feeders: Feeder) -> AsyncIterator[list[asyncio.Task[None]]]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(feeder.run()) for feeder in feeders]
        yield tasks
        for task in tasks:
            task.cancel()


async def until_found(directory: Directory, expected: list[Holding]) -> None:
    found: object = None
    async with asyncio.timeout(20):
        while found != expected:
            await asyncio.sleep(0.02)
            with contextlib.suppress(*REDIS_IS_AWAY):
                found = await directory.find(CHAIN)


async def test_a_feeder_tells_what_its_worker_holds(directory: Directory) -> None:
    events = Events(a_batch(0, *NAMES[:2]))

    async with feeding(Feeder(directory, W0, LIFE, events)):
        await until_found(directory, [held(2)])
        events.say(a_batch(1, *NAMES[2:4]))
        await until_found(directory, [held(4)])


async def test_a_feeder_fills_a_redis_that_comes_back_empty(
    directory: Directory, valkey: "Valkey"
) -> None:
    events = Events(a_batch(0, *NAMES[:3]))

    async with feeding(Feeder(directory, W0, LIFE, events)):
        await until_found(directory, [held(3)])
        valkey.kill()
        events.say(a_batch(1, NAMES[3]))
        await asyncio.sleep(0.2)
        valkey.start()
        await until_found(directory, [held(4)])


class Unreliable(Directory):
    """Loses the next of what it is told."""

    loses = False

    async def apply(self, change: DirectoryUpdate | Rebuild) -> Answer:
        if self.loses:
            self.loses = False
            raise TimeoutError
        return await super().apply(change)


async def test_what_is_lost_on_its_way_comes_with_the_next_update(redis: Redis) -> None:
    directory = Unreliable(redis, SERVICE)
    feeder = Feeder(directory, W0, LIFE, Events())
    feeder.hear(a_batch(0, NAMES[0]))
    await feeder._try()
    feeder.hear(a_batch(1, NAMES[1]))
    directory.loses = True
    assert await feeder._try() is None
    feeder.hear(a_batch(2, NAMES[2]))

    await feeder._try()

    assert await directory.find(CHAIN) == [held(3)]


async def test_a_rebuild_that_broke_off_begins_again_at_once(redis: Redis) -> None:
    directory = Unreliable(redis, SERVICE)
    feeder = Feeder(directory, W0, LIFE, Events())
    feeder.hear(a_batch(0, NAMES[0]))
    directory.loses = True
    assert await feeder._try() is None

    await feeder._try()

    assert await directory.find(CHAIN) == [held(1)]


async def test_a_quiet_worker_keeps_its_entry(redis: Redis) -> None:
    directory = Directory(redis, SERVICE, DirectorySettings(ttl_seconds=3.0))

    async with feeding(Feeder(directory, W0, LIFE, Events(a_batch(0, *NAMES)))):
        await until_found(directory, [held(8)])
        await asyncio.sleep(4.5)

        assert await directory.find(CHAIN) == [held(8)]


async def test_two_feeders_of_one_worker_make_one_entry(directory: Directory) -> None:
    batches = [a_batch(number, NAMES[number]) for number in range(6)]
    whole, late = Events(*batches), Events(*batches[4:])

    async with feeding(Feeder(directory, W0, LIFE, whole), Feeder(directory, W0, LIFE, late)):
        await until_found(directory, [held(6)])


async def test_a_feeder_ends_when_its_worker_has_a_newer_incarnation(directory: Directory) -> None:
    await directory.apply(rebuild(incarnation=NEXT_LIFE))

    with pytest.raises(FencedError, match="worker-0"):
        async with asyncio.timeout(10):
            await Feeder(directory, W0, LIFE, Events(a_batch(0))).run()


async def test_a_feeder_says_what_it_has_told_and_how_it_stands(redis: Redis) -> None:
    directory = Unreliable(redis, SERVICE)
    now = 100.0
    feeder = Feeder(directory, W0, LIFE, Events(), clock=lambda: now)
    feeder.hear(a_batch(0, *NAMES[:2]))
    await feeder._try()
    feeder.hear(a_batch(1, NAMES[2]))
    directory.loses = True
    await feeder._try()
    now += 3.0
    feeder.hear(a_batch(2, NAMES[3]))
    late = feeder.snapshot()

    await feeder._try()
    told = feeder.snapshot()

    assert late == FeedSnapshot(
        applied_batches=1,
        lost_batches=0,
        rebuilds=1,
        refused_blocks=0,
        errors=1,
        holdings=4,
        degraded=False,
        lag_seconds=3.0,
    )
    assert told == replace(late, applied_batches=3, lag_seconds=0.0)


async def test_a_feeder_says_what_a_gap_has_cost(directory: Directory) -> None:
    feeder = Feeder(directory, W0, LIFE, Events())
    feeder.hear(a_batch(0, *NAMES[:2]))
    await feeder._try()
    feeder.hear(Lost(3))
    feeder.hear(a_batch(4, NAMES[0]))

    await feeder._try()
    now = feeder.snapshot()

    assert (now.lost_batches, now.applied_batches) == (3, 2)
    assert (now.holdings, now.degraded) == (1, True)


async def test_a_feeder_says_what_there_was_no_room_for(redis: Redis) -> None:
    directory = Directory(redis, SERVICE, DirectorySettings(max_holdings=3))
    feeder = Feeder(directory, W0, LIFE, Events())
    feeder.hear(a_batch(0, *NAMES[:4]))
    await feeder._try()
    at_first = feeder.snapshot()
    feeder.hear(a_batch(1, *NAMES[4:6]))

    await feeder._try()

    assert (at_first.refused_blocks, at_first.degraded) == (1, True)
    assert feeder.snapshot().refused_blocks == 3


async def test_a_worker_without_room_for_all_keeps_what_is_listed(redis: Redis) -> None:
    directory = Directory(redis, SERVICE, DirectorySettings(max_holdings=7))
    now = 100.0
    feeder = Feeder(directory, W0, LIFE, Events(), clock=lambda: now)
    feeder.hear(a_batch(0, *NAMES))
    await feeder._try()
    now += REPAIR_GAP_SECONDS

    assert await feeder._try() is Verdict.KNOWN
    assert await directory.find(CHAIN) == [held(7, degraded=True)]
    assert feeder.snapshot().rebuilds == 1


async def test_a_worker_is_listed_wholly_as_soon_as_there_is_room_for_it(redis: Redis) -> None:
    directory = Directory(redis, SERVICE, DirectorySettings(max_holdings=17))
    now = 100.0
    feeder = Feeder(directory, W0, LIFE, Events(), clock=lambda: now)
    others = [bytes([number]).rjust(16, b"o") for number in range(10)]
    await begin(directory, *others, worker=W1)
    feeder.hear(a_batch(0, *NAMES))
    await feeder._try()
    before = await directory.find(CHAIN)
    await directory.forget(W1, LIFE)
    while await directory.sweep("t") == "more":
        pass
    now += REPAIR_GAP_SECONDS

    assert await feeder._try() is Verdict.UNKNOWN
    await feeder._try()

    assert before == [held(7, degraded=True)]
    assert await directory.find(CHAIN) == [held(8)]
