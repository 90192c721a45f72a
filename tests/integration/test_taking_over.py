"""A pool manager after another one, with workers that have no process, and a real Valkey."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from twofold_cluster.identity import Role, WorkerId
from twofold_cluster.membership import connect
from twofold_engine.errors import InvalidPoolError, SupersededError
from twofold_engine.pools.claiming import Claim
from twofold_engine.pools.managing import INTERVAL_SECONDS, PoolManager
from twofold_engine.pools.member import Member
from twofold_engine.pools.planning import Phase
from twofold_engine.pools.settings import ManagerSettings
from twofold_engine.pools.wanting import Adapter, EngineSpec, Pool
from twofold_engine.testing import FakeHandle, FakeLauncher

ENGINE = EngineSpec(model="m", served_name="m")
PREFILL_0 = WorkerId("s-prefill-0")
DECODE_0 = WorkerId("s-decode-0")
ADAPTERS = [Adapter("tuned", "/some/where")]
KEY = "twofold:{s}:manager:one"
WAIT_SECONDS = 20.0
A_FEW_ROUNDS_SECONDS = 3 * INTERVAL_SECONDS


def pools(prefill: int, decode: int, *, standby: bool = False) -> list[Pool]:
    return [
        Pool(Role.PREFILL, "1", prefill, ENGINE, standby=standby),
        Pool(Role.DECODE, "1", decode, ENGINE, standby=standby),
    ]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


class Life:
    """One manager's life. It ends as by a kill: nothing is done to any worker any more."""

    def __init__(self, manager: PoolManager, launcher: FakeLauncher) -> None:
        self.manager = manager
        self.launcher = launcher
        self.task = asyncio.create_task(manager.run())

    def member(self, worker_id: WorkerId) -> Member:
        return next(m for m in self.manager.snapshot().members if m.worker_id == worker_id)

    def phases(self) -> dict[str, Phase]:
        return {m.worker_id: m.phase for m in self.manager.snapshot().members}

    async def serve(self, *adapters: Adapter, standby: bool = False) -> list[FakeHandle]:
        """Want a worker of each role, and have them get ready; return their handles."""
        self.manager.apply(1, pools(1, 1, standby=standby), adapters)
        await until(lambda: len(self.launcher.handles) == 2)
        for handle in self.launcher.handles:
            handle.become_ready()
        await until(lambda: set(self.phases().values()) == {Phase.READY})
        wanted = {adapter.name for adapter in adapters}
        handles = list(self.launcher.handles)
        await until(lambda: all(handle.adapters.keys() == wanted for handle in handles))
        return handles

    async def end(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


class Managers:
    """Managers of the same workers, one after the other or two at a time."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self.lives: list[Life] = []

    async def begin(self, *left: FakeHandle) -> Life:
        """Begin a manager that finds what is *left*."""
        launcher = FakeLauncher()
        launcher.left = [handle.hand_over() for handle in left]
        settings = ManagerSettings("s", "redis://h:1", "s")
        manager = PoolManager(settings, launcher, self._redis)
        await manager.take_over()
        life = Life(manager, launcher)
        self.lives.append(life)
        return life

    async def begin_second(self) -> Life:
        """Begin one that takes over a ready worker of each role."""
        first = await self.begin()
        handles = await first.serve()
        await first.end()
        return await self.begin(*handles)


@pytest.fixture
async def managers(valkey: Any) -> AsyncIterator[Managers]:
    async with connect(valkey.url) as redis:
        managers = Managers(redis)
        yield managers
        for life in managers.lives:
            if not life.task.done():
                await life.end()


async def test_a_manager_that_ends_leaves_its_workers_as_they_are(managers: Managers) -> None:
    first = await managers.begin()
    handles = await first.serve()

    await first.end()

    assert not any(handle.stopped or handle.drained for handle in handles)


async def test_the_next_manager_knows_of_the_workers_before_it_runs_and_starts_no_others(
    managers: Managers,
) -> None:
    first = await managers.begin()
    handles = await first.serve(*ADAPTERS, standby=True)
    await first.end()

    second = await managers.begin(*handles)
    before = second.manager.snapshot()
    second.manager.apply(1, pools(1, 1, standby=True), ADAPTERS)
    await asyncio.sleep(A_FEW_ROUNDS_SECONDS)

    assert [(m.worker_id, m.phase, m.standby, m.node) for m in before.members] == [
        (DECODE_0, Phase.READY, True, f"node-of-{DECODE_0}"),
        (PREFILL_0, Phase.READY, True, f"node-of-{PREFILL_0}"),
    ]
    assert before.generation == 0
    assert before.wanted == ()
    assert len(second.launcher.handles) == 2
    assert all(h.adapter_attempts == 1 and h.standby_attempts == 0 for h in second.launcher.handles)
    assert second.member(PREFILL_0).incarnation == handles[0].settings.incarnation


async def test_a_manager_that_was_told_nothing_changes_nothing(managers: Managers) -> None:
    first = await managers.begin()
    handles = await first.serve(*ADAPTERS)
    await first.end()

    second = await managers.begin(*handles)
    await asyncio.sleep(A_FEW_ROUNDS_SECONDS)

    assert set(second.phases().values()) == {Phase.READY}
    assert all(handle.adapters for handle in second.launcher.handles)


async def test_a_manager_that_is_told_to_want_nothing_ends_what_it_took_over(
    managers: Managers,
) -> None:
    second = await managers.begin_second()
    wanted_none_untold = second.manager.wants_none

    second.manager.apply(1, [])
    await until(lambda: not second.phases())

    assert (wanted_none_untold, second.manager.wants_none) == (False, True)
    assert all(handle.drained and handle.stopped for handle in second.launcher.handles)


async def test_a_worker_is_taken_over_in_the_role_that_it_has_now(managers: Managers) -> None:
    first = await managers.begin()
    handles = await first.serve()
    first.manager.apply(2, pools(0, 2))
    await until(lambda: handles[0].settings.role is Role.DECODE)
    await first.end()

    second = await managers.begin(*handles)
    role = second.member(PREFILL_0).role
    second.manager.apply(2, pools(0, 2))
    await asyncio.sleep(A_FEW_ROUNDS_SECONDS)

    assert role is Role.DECODE
    assert len(second.launcher.handles) == 2
    assert not any(handle.drained for handle in second.launcher.handles)


async def test_a_worker_that_drained_goes_on_and_ends(managers: Managers) -> None:
    first = await managers.begin()
    prefill, decode = await first.serve()
    prefill.drain_may_end.clear()
    first.manager.drain(PREFILL_0, 60)
    await until(lambda: prefill.drained)
    await first.end()
    assert not prefill.stopped

    second = await managers.begin(prefill, decode)
    await until(lambda: second.phases() == {PREFILL_0: Phase.DRAINING, DECODE_0: Phase.READY})
    prefill.drain_may_end.set()

    await until(lambda: list(second.phases()) == [DECODE_0])
    assert second.launcher.latest(PREFILL_0).stopped


async def test_a_worker_with_a_place_that_nobody_started_is_started(managers: Managers) -> None:
    first = await managers.begin()
    first.launcher.is_full = True
    first.manager.apply(1, pools(1, 0))
    await until(lambda: bool(first.launcher.handles))
    (handle,) = first.launcher.handles
    await first.end()
    handle.has_place.set()

    second = await managers.begin(handle)

    await until(lambda: second.launcher.handles[0].started)
    await until(lambda: second.phases() == {PREFILL_0: Phase.STARTING})


async def test_a_worker_that_died_while_nobody_managed_is_replaced_once_it_is_known_what_is_wanted(
    managers: Managers,
) -> None:
    first = await managers.begin()
    prefill, decode = await first.serve()
    await first.end()
    prefill.crash()

    second = await managers.begin(prefill, decode)
    await until(lambda: second.phases()[PREFILL_0] is Phase.DEAD)
    await until(lambda: second.launcher.handles[0].stopped)
    assert len(second.launcher.handles) == 2
    second.manager.apply(1, pools(1, 1))

    await until(lambda: len(second.launcher.handles) == 3)
    assert second.launcher.handles[2].settings.incarnation > prefill.settings.incarnation


async def test_another_engine_for_the_revision_of_a_worker_that_is_there_is_refused(
    managers: Managers,
) -> None:
    second = await managers.begin_second()
    other = EngineSpec(model="m", served_name="m", kv_cache_gib=2.0)

    with pytest.raises(InvalidPoolError, match="use a new one"):
        second.manager.apply(1, [Pool(Role.PREFILL, "1", 1, other)])

    second.manager.apply(1, pools(1, 1))


async def test_a_manager_whose_workers_were_taken_over_ends_and_touches_none(
    managers: Managers,
) -> None:
    first = await managers.begin()
    handles = await first.serve()
    handles[0].drain_may_end.clear()
    first.manager.drain(PREFILL_0, 60)
    await until(lambda: handles[0].drained)

    second = await managers.begin(*handles)

    with pytest.raises(SupersededError):
        async with asyncio.timeout(WAIT_SECONDS):
            await first.task
    await first.manager.end_all()
    assert not any(handle.stopped for handle in (*handles, *second.launcher.handles))


async def test_a_manager_that_is_taken_over_as_it_drains_its_workers_waits_for_them_no_longer(
    managers: Managers,
) -> None:
    first = await managers.begin()
    handles = await first.serve()
    handles[0].drain_may_end.clear()
    draining = asyncio.create_task(first.manager.drain_all(limit_seconds=600))
    await until(lambda: handles[0].drained)

    await managers.begin(*handles)

    async with asyncio.timeout(WAIT_SECONDS):
        await draining
    with pytest.raises(SupersededError):
        await first.task


async def test_a_manager_without_workers_ends_too_when_another_one_begins(
    managers: Managers,
) -> None:
    first = await managers.begin()
    second = await managers.begin()

    with pytest.raises(SupersededError):
        async with asyncio.timeout(WAIT_SECONDS):
            await first.task

    await asyncio.sleep(A_FEW_ROUNDS_SECONDS)
    assert not second.task.done()


async def test_a_claim_that_redis_has_forgotten_is_made_again(valkey: Any) -> None:
    async with connect(valkey.url) as redis:
        first, second = (Claim(redis, "s", "one", name) for name in ("first", "second"))
        await first.make()
        valkey.restart()

        await first.check()
        await first.check()

        assert await redis.get(KEY) == b"first"
        await second.make()
        with pytest.raises(SupersededError, match="second has taken over"):
            await first.check()


async def test_a_claim_that_redis_did_not_hear_is_made_over_that_of_a_predecessor(
    valkey: Any,
) -> None:
    valkey.kill()
    async with connect(valkey.url) as redis:
        claim = Claim(redis, "s", "one", "second")
        await claim.make()
        await claim.check()
        valkey.start()
        await redis.set(KEY, "first")

        await claim.check()
        await claim.check()

        assert await redis.get(KEY) == b"second"


async def test_managers_of_other_prefixes_leave_a_claim_alone(valkey: Any) -> None:
    async with connect(valkey.url) as redis:
        claims = [Claim(redis, "s", prefix, prefix) for prefix in ("one", "one-two")]
        for claim in claims:
            await claim.make()

        for claim in claims:
            await claim.check()


async def test_told_to_end_all_a_manager_ends_what_it_took_over(managers: Managers) -> None:
    second = await managers.begin_second()
    await second.end()

    await second.manager.end_all()

    assert all(handle.stopped for handle in second.launcher.handles)


async def test_told_to_leave_all_a_manager_ends_only_what_waits_for_a_place(
    managers: Managers,
) -> None:
    first = await managers.begin()
    ready = await first.serve()
    first.launcher.is_full = True
    first.manager.apply(2, pools(2, 1))
    await until(lambda: len(first.launcher.handles) == 3)
    await first.end()

    await first.manager.leave_all()

    assert first.launcher.handles[2].stopped
    assert not any(handle.stopped for handle in ready)
