"""The pool manager with workers that have no process, and a real Valkey."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.membership import connect, withdraw
from twofold_cluster.rpc import pools_pb2 as pb
from twofold_cluster.rpc.pools_pb2_grpc import PoolsStub, add_PoolsServicer_to_server
from twofold_cluster.worker import Gone

if TYPE_CHECKING:
    from twofold_cluster.rpc.pools_pb2_grpc import PoolsAsyncStub
from twofold_engine.errors import EngineError
from twofold_engine.pools.managing import INTERVAL_SECONDS, PoolManager
from twofold_engine.pools.member import Member
from twofold_engine.pools.planning import Phase
from twofold_engine.pools.serving import PoolsService
from twofold_engine.pools.settings import START_LIMIT_SECONDS, ManagerSettings, worker_settings
from twofold_engine.pools.wanting import EngineSpec, Pool
from twofold_engine.supervising import ProcessState
from twofold_engine.testing import FakeHandle, FakeLauncher
from twofold_kvtransfer.directory import Directory, Position, Rebuild

ENGINE = EngineSpec(model="m", served_name="m")
PREFILL_0 = WorkerId("s-prefill-0")
SOME_ROUNDS_SECONDS = 3 * INTERVAL_SECONDS


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Managed:
    """A manager that runs, on a clock that a test moves."""

    def __init__(self, manager: PoolManager, launcher: FakeLauncher, clock: Clock) -> None:
        self.manager = manager
        self.launcher = launcher
        self.clock = clock

    def want(self, generation: int, prefill: int, decode: int) -> None:
        self.manager.apply(
            generation,
            [Pool(Role.PREFILL, "1", prefill, ENGINE), Pool(Role.DECODE, "1", decode, ENGINE)],
        )

    def phases(self) -> dict[str, Phase]:
        return {m.worker_id: m.phase for m in self.manager.snapshot().members}

    async def handle(self, worker_id: WorkerId, count: int = 1) -> FakeHandle:
        """Wait until the worker was launched *count* times; return the last."""

        def launched() -> bool:
            return sum(h.settings.worker_id == worker_id for h in self.launcher.handles) >= count

        await until(launched)
        return self.launcher.latest(worker_id)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def managing(url: str, *, adopts: Incarnation | None = None) -> AsyncIterator[Managed]:
    """Manage; with *adopts*, what an earlier manager left: a prefill worker in this life."""
    launcher, clock = FakeLauncher(), Clock()
    settings = ManagerSettings("s", url, "s")
    if adopts is not None:
        pool = Pool(Role.PREFILL, "1", 1, ENGINE)
        member = Member(PREFILL_0, pool, adopts, since=0.0)
        left = FakeHandle(worker_settings(settings, member), pool, started=True)
        launcher.left = [left.hand_over()]
    async with connect(url) as redis:
        manager = PoolManager(settings, launcher, redis, clock)
        await manager.take_over()
        task = asyncio.create_task(manager.run())
        yield Managed(manager, launcher, clock)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def managed(valkey: Any) -> AsyncIterator[Managed]:
    async with managing(valkey.url) as managed:
        yield managed


async def test_wanted_workers_are_launched_and_become_ready(managed: Managed) -> None:
    managed.want(1, prefill=1, decode=1)
    (await managed.handle(PREFILL_0)).become_ready()
    (await managed.handle(WorkerId("s-decode-0"))).become_ready()

    await until(lambda: set(managed.phases().values()) == {Phase.READY})


async def test_a_dead_worker_comes_back_as_a_new_incarnation_later_after_each_failure(
    managed: Managed,
) -> None:
    managed.want(1, prefill=1, decode=0)
    first = await managed.handle(PREFILL_0)
    first.crash()
    await until(lambda: managed.phases()[PREFILL_0] is Phase.DEAD)
    assert len(managed.launcher.handles) == 1

    managed.clock.now = 1.0
    second = await managed.handle(PREFILL_0, count=2)
    second.crash()
    await until(lambda: managed.phases()[PREFILL_0] is Phase.DEAD)
    managed.clock.now = 2.5  # the second delay is two seconds
    await asyncio.sleep(0.6)

    assert len(managed.launcher.handles) == 2
    managed.clock.now = 3.0
    third = await managed.handle(PREFILL_0, count=3)
    assert first.settings.incarnation < second.settings.incarnation < third.settings.incarnation
    assert first.stopped
    assert second.stopped


async def test_a_worker_whose_node_goes_is_replaced(managed: Managed) -> None:
    managed.want(1, prefill=1, decode=0)
    (await managed.handle(PREFILL_0)).lose()
    await until(lambda: managed.phases()[PREFILL_0] is Phase.DEAD)

    managed.clock.now = 1.0

    assert not (await managed.handle(PREFILL_0, count=2)).lost


async def test_a_worker_that_cannot_be_asked_for_a_while_stays_and_is_replaced_then(
    managed: Managed,
) -> None:
    managed.want(1, prefill=1, decode=0)
    handle = await managed.handle(PREFILL_0)
    handle.become_ready()
    await until(lambda: managed.phases()[PREFILL_0] is Phase.READY)
    silence_limit_seconds = ManagerSettings("s", "", "s").silence_limit_seconds
    handle.state_error = EngineError("the actor is unavailable")

    managed.clock.now += silence_limit_seconds
    await asyncio.sleep(SOME_ROUNDS_SECONDS)
    handle.state_error = None
    await asyncio.sleep(SOME_ROUNDS_SECONDS)
    assert managed.phases()[PREFILL_0] is Phase.READY
    handle.state_error = EngineError("the actor is unavailable")
    managed.clock.now += silence_limit_seconds + 0.5
    await until(lambda: managed.phases()[PREFILL_0] is Phase.DEAD)

    message = managed.manager.snapshot().members[0].message
    assert message == "its actor does not answer: the actor is unavailable"


async def test_a_worker_too_many_finishes_before_it_ends(managed: Managed) -> None:
    managed.want(1, prefill=2, decode=0)
    second = await managed.handle(WorkerId("s-prefill-1"))
    second.become_ready()
    (await managed.handle(PREFILL_0)).become_ready()
    await until(lambda: set(managed.phases().values()) == {Phase.READY})

    managed.want(2, prefill=1, decode=0)
    await until(lambda: list(managed.phases()) == [PREFILL_0])

    assert second.drained
    assert second.stopped


async def test_a_change_of_role_counts_launches_nothing(managed: Managed) -> None:
    managed.want(1, prefill=2, decode=0)
    for name in ("s-prefill-0", "s-prefill-1"):
        (await managed.handle(WorkerId(name))).become_ready()
    await until(lambda: set(managed.phases().values()) == {Phase.READY})

    managed.want(2, prefill=1, decode=1)
    await until(lambda: managed.launcher.handles[1].settings.role is Role.DECODE)

    assert len(managed.launcher.handles) == 2
    assert not any(handle.stopped for handle in managed.launcher.handles)


async def test_a_worker_that_cannot_drain_ends_all_the_same(managed: Managed) -> None:
    managed.want(1, prefill=1, decode=0)
    handle = await managed.handle(PREFILL_0)
    handle.become_ready()
    await until(lambda: managed.phases()[PREFILL_0] is Phase.READY)
    handle.drain_fails = True

    managed.want(2, prefill=0, decode=0)

    await until(lambda: not managed.phases())
    assert handle.stopped


async def test_a_worker_that_waits_for_a_place_can_be_given_up(managed: Managed) -> None:
    managed.launcher.is_full = True
    managed.want(1, prefill=1, decode=0)
    handle = await managed.handle(PREFILL_0)
    assert managed.phases()[PREFILL_0] is Phase.PENDING

    managed.want(2, prefill=0, decode=0)

    await until(lambda: not managed.phases())
    assert handle.stopped


async def test_a_worker_that_does_not_get_ready_is_started_again(managed: Managed) -> None:
    managed.want(1, prefill=1, decode=0)
    handle = await managed.handle(PREFILL_0)
    handle.process = ProcessState(message="loading weights")
    await until(lambda: managed.manager.snapshot().members[0].message == "loading weights")

    message = await started_again(managed)
    managed.clock.now += 2 * START_LIMIT_SECONDS
    await asyncio.sleep(SOME_ROUNDS_SECONDS)

    assert message == "not ready within 3600 s: loading weights"
    assert handle.stopped
    assert managed.phases()[PREFILL_0] is Phase.READY


async def test_a_worker_whose_actor_hangs_in_its_place_is_started_again(managed: Managed) -> None:
    managed.launcher.hangs = True
    managed.want(1, prefill=1, decode=0)
    handle = await managed.handle(PREFILL_0)
    await until(lambda: managed.phases()[PREFILL_0] is Phase.STARTING)
    managed.launcher.hangs = False

    message = await started_again(managed)

    assert message == "not ready within 3600 s: waiting for its actor"
    assert handle.stopped


async def started_again(managed: Managed) -> str:
    """Let the only worker, which starts at 0 s, be given up and started again; return why."""
    managed.clock.now = START_LIMIT_SECONDS
    await asyncio.sleep(SOME_ROUNDS_SECONDS)
    assert managed.phases()[PREFILL_0] is Phase.STARTING
    managed.clock.now += 0.5
    await until(lambda: managed.phases()[PREFILL_0] is Phase.DEAD)
    message = managed.manager.snapshot().members[0].message
    managed.clock.now += 1.0
    (await managed.handle(PREFILL_0, count=2)).become_ready()
    await until(lambda: managed.phases()[PREFILL_0] is Phase.READY)
    return message


@pytest.mark.parametrize("error", [EngineError("Ray does not take it"), TypeError("a bug of ours")])
async def test_a_worker_that_cannot_be_asked_for_is_tried_again_later_and_the_others_stay(
    error: Exception, managed: Managed
) -> None:
    managed.want(1, prefill=1, decode=0)
    (await managed.handle(PREFILL_0)).become_ready()
    await until(lambda: managed.phases()[PREFILL_0] is Phase.READY)
    decode_0 = WorkerId("s-decode-0")
    managed.launcher.start_error = error

    managed.want(2, prefill=1, decode=1)
    await until(lambda: managed.phases().get(decode_0) is Phase.DEAD)
    message = managed.manager.snapshot().members[0].message
    await asyncio.sleep(SOME_ROUNDS_SECONDS)
    assert len(managed.launcher.handles) == 2
    managed.clock.now = 1.0
    await managed.handle(decode_0, count=2)
    await until(lambda: managed.phases()[decode_0] is Phase.DEAD)
    managed.launcher.start_error = None
    managed.clock.now = 2.5  # the second delay is two seconds
    await asyncio.sleep(SOME_ROUNDS_SECONDS)
    assert len(managed.launcher.handles) == 3
    managed.clock.now = 3.0
    (await managed.handle(decode_0, count=3)).become_ready()
    await until(lambda: managed.phases()[decode_0] is Phase.READY)

    assert str(error) in message
    assert managed.phases()[PREFILL_0] is Phase.READY


async def test_a_worker_may_wait_for_a_place_for_ever(managed: Managed) -> None:
    managed.launcher.is_full = True
    managed.want(1, prefill=1, decode=0)
    handle = await managed.handle(PREFILL_0)

    managed.clock.now = 10 * START_LIMIT_SECONDS
    await asyncio.sleep(SOME_ROUNDS_SECONDS)
    assert managed.phases()[PREFILL_0] is Phase.PENDING
    handle.has_place.set()
    handle.become_ready()
    await until(lambda: managed.phases()[PREFILL_0] is Phase.READY)

    assert len(managed.launcher.handles) == 1


@pytest.mark.parametrize("dies", [FakeHandle.crash, FakeHandle.lose])
async def test_a_worker_that_dies_while_its_standby_changes_gives_its_place_back(
    dies: Callable[[FakeHandle], None], managed: Managed
) -> None:
    managed.want(1, prefill=1, decode=0)
    handle = await managed.handle(PREFILL_0)
    handle.become_ready()
    await until(lambda: managed.phases()[PREFILL_0] is Phase.READY)
    handle.standby_may_end.clear()
    managed.manager.apply(2, [Pool(Role.PREFILL, "1", 1, ENGINE, standby=True)])
    await until(lambda: handle.standby_attempts == 1)

    dies(handle)
    await until(lambda: managed.phases()[PREFILL_0] is Phase.DEAD)
    await asyncio.sleep(SOME_ROUNDS_SECONDS)
    handle.standby_may_end.set()
    managed.clock.now = 1.0
    await managed.handle(PREFILL_0, count=2)

    assert handle.stopped


AHEAD = Incarnation("f00000000000-ffffffff")
"""One that began by a clock that is ahead of all others."""


async def test_a_worker_that_redis_fences_starts_as_a_newer_incarnation(valkey: Any) -> None:
    async with connect(valkey.url) as redis:
        await withdraw(redis, "s", Gone(worker_id=PREFILL_0, incarnation=AHEAD))
        async with managing(valkey.url) as managed:
            managed.want(1, prefill=1, decode=0)
            handle = await managed.handle(PREFILL_0)

    assert handle.settings.incarnation > f"{AHEAD}~"


@pytest.mark.parametrize("is_forgotten", [False, True])
async def test_a_worker_that_the_block_directory_fences_starts_as_a_newer_incarnation(
    is_forgotten: bool, valkey: Any
) -> None:
    async with connect(valkey.url) as redis:
        directory = Directory(redis, "s")
        known = Rebuild(PREFILL_0, AHEAD, Position(0.0, 0), "token", True, True, False)
        await directory.apply(known)
        if is_forgotten:
            await directory.forget(PREFILL_0, AHEAD)
        async with managing(valkey.url) as managed:
            managed.want(1, prefill=1, decode=0)
            handle = await managed.handle(PREFILL_0)

    assert handle.settings.incarnation > f"{AHEAD}~"


async def test_the_next_life_is_newer_also_when_redis_is_away(valkey: Any) -> None:
    valkey.kill()
    async with managing(valkey.url, adopts=AHEAD) as managed:
        managed.want(1, prefill=1, decode=0)
        first = await managed.handle(PREFILL_0)
        first.crash()
        await until(lambda: managed.phases()[PREFILL_0] is Phase.DEAD)
        managed.clock.now = 1.0
        second = await managed.handle(PREFILL_0, count=2)

    assert AHEAD == first.settings.incarnation < second.settings.incarnation


@contextlib.asynccontextmanager
async def stub(managed: Managed) -> "AsyncIterator[PoolsAsyncStub]":
    server = grpc.aio.server()
    add_PoolsServicer_to_server(PoolsService(managed.manager, managed.clock), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield PoolsStub(channel)
    await server.stop(grace=None)


def a_request(
    generation: int,
    replicas: int = 1,
    model: str = "m",
    *,
    standby: bool = False,
    adapters: Mapping[str, str] | None = None,
) -> pb.ApplyRequest:
    engine = pb.EngineSpec(model=model, served_name="m")
    pool = pb.Pool(
        role=pb.ROLE_PREFILL, revision="1", replicas=replicas, engine=engine, standby=standby
    )
    wanted = [pb.Adapter(name=n, source=s) for n, s in (adapters or {}).items()]
    return pb.ApplyRequest(generation=generation, pools=[pool], adapters=wanted)


async def test_what_is_applied_over_grpc_is_watched_until_it_is_ready(managed: Managed) -> None:
    async with stub(managed) as pools:
        await pools.Apply(a_request(7))
        (await managed.handle(PREFILL_0)).become_ready()

        async with asyncio.timeout(10):
            async for state in pools.Watch(pb.WatchRequest()):
                if state.pools and state.pools[0].ready == 1:
                    break

    assert state.observed_generation == 7
    assert state.workers[0].phase == pb.PHASE_READY
    assert state.workers[0].incarnation == managed.launcher.handles[0].settings.incarnation


async def test_a_worker_is_asked_for_rdma_and_its_warning_is_passed_on(managed: Managed) -> None:
    request = a_request(1)
    request.pools[0].engine.rdma = True
    async with stub(managed) as pools:
        await pools.Apply(request)
        handle = await managed.handle(PREFILL_0)
        handle.become_ready(warning="no port")

        async with asyncio.timeout(10):
            async for state in pools.Watch(pb.WatchRequest()):
                if state.workers and state.workers[0].warning:
                    break

    assert handle.settings.rdma
    assert state.workers[0].warning == "no port"


@pytest.mark.parametrize("unverified", [False, True])
async def test_a_worker_is_told_whether_to_compare_what_it_moved(
    managed: Managed, unverified: bool
) -> None:
    request = a_request(1)
    request.pools[0].engine.unverified = unverified
    async with stub(managed) as pools:
        await pools.Apply(request)
        handle = await managed.handle(PREFILL_0)

    assert handle.settings.unverified is unverified


@pytest.mark.parametrize(
    "bad", [a_request(1), a_request(9, replicas=10_001), a_request(9, model="another")]
)
async def test_a_bad_apply_is_refused_and_changes_nothing(
    managed: Managed, bad: pb.ApplyRequest
) -> None:
    async with stub(managed) as pools:
        await pools.Apply(a_request(2))

        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await pools.Apply(bad)

        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert (await pools.Get(pb.GetRequest())).observed_generation == 2


async def test_workers_from_before_a_scaling_still_count_as_ready(managed: Managed) -> None:
    async with stub(managed) as pools:
        await pools.Apply(a_request(1))
        (await managed.handle(PREFILL_0)).become_ready()
        await until(lambda: managed.phases()[PREFILL_0] is Phase.READY)

        await pools.Apply(a_request(2, replicas=2))
        state = await pools.Get(pb.GetRequest())

    assert (state.pools[0].desired, state.pools[0].ready) == (2, 1)


async def test_a_pool_that_goes_and_comes_back_otherwise_gets_workers_of_its_own(
    managed: Managed,
) -> None:
    async with stub(managed) as pools:
        await pools.Apply(a_request(1))
        first = await managed.handle(PREFILL_0)
        first.become_ready()
        await until(lambda: managed.phases()[PREFILL_0] is Phase.READY)

        managed.manager.apply(2, [])
        managed.manager.apply(3, [Pool(Role.PREFILL, "1", 1, EngineSpec("other", "m"))])
        state = await pools.Get(pb.GetRequest())
        second = await managed.handle(WorkerId("s-prefill-1"))
        await until(lambda: list(managed.phases()) == ["s-prefill-1"])

    assert state.pools[0].ready == 0
    assert second.pool.engine.model == "other"
    assert first.drained


async def test_a_worker_is_drained_by_name_and_replaced(managed: Managed) -> None:
    async with stub(managed) as pools:
        await pools.Apply(a_request(1))
        first = await managed.handle(PREFILL_0)
        first.become_ready()
        await until(lambda: managed.phases()[PREFILL_0] is Phase.READY)

        await pools.Drain(pb.DrainRequest(worker_id=PREFILL_0))
        await until(lambda: first.stopped)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await pools.Drain(pb.DrainRequest(worker_id="nobody"))

    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert first.drained
    await until(lambda: len(managed.launcher.handles) == 2)


async def ready_pair(managed: Managed) -> tuple[FakeHandle, FakeHandle]:
    managed.want(1, prefill=1, decode=1)
    prefill = await managed.handle(PREFILL_0)
    decode = await managed.handle(WorkerId("s-decode-0"))
    prefill.become_ready()
    decode.become_ready()
    await until(lambda: set(managed.phases().values()) == {Phase.READY})
    return prefill, decode


def on_standby(managed: Managed) -> dict[str, bool]:
    return {m.worker_id: m.standby for m in managed.manager.snapshot().members}


async def test_a_pool_on_standby_starts_so_and_is_told_when_it_is_wanted(managed: Managed) -> None:
    async with stub(managed) as pools:
        await pools.Apply(a_request(1, standby=True))
        handle = await managed.handle(PREFILL_0)
        assert handle.settings.standby
        handle.become_ready()
        await until(lambda: managed.phases()[PREFILL_0] is Phase.READY)
        assert (await pools.Get(pb.GetRequest())).workers[0].standby

        await pools.Apply(a_request(2))
        await until(lambda: not handle.standby)
        await until(lambda: not on_standby(managed)[PREFILL_0])

        assert len(managed.launcher.handles) == 1
        state = await pools.Get(pb.GetRequest())
        assert (state.workers[0].standby, state.workers[0].node) == (False, f"node-of-{PREFILL_0}")


async def test_a_standby_counts_when_the_worker_has_taken_it_and_is_tried_until_then(
    managed: Managed,
) -> None:
    async with stub(managed) as pools:
        await pools.Apply(a_request(1))
        handle = await managed.handle(PREFILL_0)
        handle.become_ready()
        await until(lambda: managed.phases()[PREFILL_0] is Phase.READY)
        handle.standby_fails = True

        await pools.Apply(a_request(2, standby=True))
        await until(lambda: handle.standby_attempts > 1)
        assert not on_standby(managed)[PREFILL_0]
        handle.standby_fails = False

        await until(lambda: on_standby(managed)[PREFILL_0])


async def test_the_decode_worker_of_a_revision_that_leaves_outlives_its_prefill_worker(
    managed: Managed,
) -> None:
    prefill, decode = await ready_pair(managed)
    prefill.drain_may_end.clear()

    managed.want(2, prefill=0, decode=0)
    await until(lambda: prefill.drained)
    await until(lambda: on_standby(managed)["s-decode-0"])
    assert not decode.drained
    prefill.drain_may_end.set()

    await until(lambda: not managed.phases())
    assert decode.drained


async def test_told_to_drain_all_it_ends_them_in_the_same_order(managed: Managed) -> None:
    prefill, decode = await ready_pair(managed)

    await managed.manager.drain_all(limit_seconds=60)

    assert managed.phases() == {}
    assert prefill.drained
    assert decode.drained
    assert decode.standby  # which it was told while the other one drained


async def test_a_worker_that_does_not_end_bounds_a_drain_of_all(managed: Managed) -> None:
    prefill, _ = await ready_pair(managed)
    prefill.drain_may_end.clear()

    await managed.manager.drain_all(limit_seconds=0.2)

    assert managed.phases()[PREFILL_0] is Phase.DRAINING


async def test_adapters_are_loaded_reported_and_unloaded(managed: Managed) -> None:
    async with stub(managed) as pools:
        await pools.Apply(a_request(1, adapters={"a": "/a", "b": "/missing"}))
        handle = await managed.handle(PREFILL_0)
        waiting = (await pools.Get(pb.GetRequest())).workers[0].adapters
        handle.become_ready()
        await until(lambda: handle.adapter_attempts == 2)
        await until(lambda: len(managed.manager.snapshot().members[0].adapters) == 2)
        tried = (await pools.Get(pb.GetRequest())).workers[0].adapters

        await pools.Apply(a_request(2, adapters={"a": "/other"}))
        await until(lambda: handle.adapters == {"a": "/other"})
        await pools.Apply(a_request(3))
        await until(lambda: handle.adapters == {})
        await until(lambda: not managed.manager.snapshot().members[0].adapters.get("a"))
        left = (await pools.Get(pb.GetRequest())).workers[0].adapters

    assert [(a.name, a.loaded, a.message) for a in waiting] == [
        ("a", False, ""),
        ("b", False, ""),
    ]
    assert [(a.name, a.loaded) for a in tried] == [("a", True), ("b", False)]
    assert tried[1].message == "no adapter at /missing"
    assert list(left) == []


async def test_a_new_incarnation_loads_its_adapters_again(managed: Managed) -> None:
    async with stub(managed) as pools:
        await pools.Apply(a_request(1, adapters={"a": "/a"}))
        first = await managed.handle(PREFILL_0)
        first.become_ready()
        await until(lambda: first.adapters == {"a": "/a"})
        first.crash()
        await until(lambda: managed.phases()[PREFILL_0] is Phase.DEAD)
        assert not managed.manager.snapshot().members[0].adapters
        managed.clock.now = 1.0
        second = await managed.handle(PREFILL_0, count=2)
        second.become_ready()

        await until(lambda: second.adapters == {"a": "/a"})


async def test_an_adapter_of_the_models_own_name_is_refused(managed: Managed) -> None:
    async with stub(managed) as pools:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await pools.Apply(a_request(1, adapters={"m": "/a"}))

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_workers_know_how_much_the_directory_may_list(valkey: Any) -> None:
    launcher, clock = FakeLauncher(), Clock()
    settings = ManagerSettings("s", valkey.url, "s", directory_holdings=100)
    async with connect(valkey.url) as redis:
        manager = PoolManager(settings, launcher, redis, clock)
        task = asyncio.create_task(manager.run())
        managed = Managed(manager, launcher, clock)
        managed.want(1, prefill=1, decode=0)
        handle = await managed.handle(PREFILL_0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    assert handle.settings.directory_holdings == 100


async def test_a_manager_works_while_redis_is_away(valkey: Any) -> None:
    launcher, clock = FakeLauncher(), Clock()
    valkey.kill()
    async with connect(valkey.url) as redis:
        manager = PoolManager(ManagerSettings("s", valkey.url, "rev-1"), launcher, redis, clock)
        task = asyncio.create_task(manager.run())
        managed = Managed(manager, launcher, clock)
        managed.want(1, prefill=1, decode=0)
        name = WorkerId("rev-1-prefill-0")
        (await managed.handle(name)).crash()
        await until(lambda: managed.phases()[name] is Phase.DEAD)
        clock.now = 1.0
        (await managed.handle(name, count=2)).become_ready()
        await until(lambda: managed.phases()[name] is Phase.READY)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
