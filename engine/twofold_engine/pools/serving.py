"""The pool manager over gRPC."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from twofold_cluster.identity import Role, WorkerId
from twofold_cluster.rpc import pools_pb2 as pb
from twofold_cluster.rpc import pools_pb2_grpc as rpc
from twofold_engine.errors import InvalidPoolError, UnknownWorkerError
from twofold_engine.pools.adapting import AdapterState
from twofold_engine.pools.managing import PoolManager, Snapshot
from twofold_engine.pools.member import Member
from twofold_engine.pools.planning import Phase
from twofold_engine.pools.wanting import Adapter, EngineSpec, Pool

WATCH_INTERVAL_SECONDS = 0.25
DEFAULT_DRAIN_LIMIT_SECONDS = 60.0

_ROLES = {pb.ROLE_PREFILL: Role.PREFILL, pb.ROLE_DECODE: Role.DECODE, pb.ROLE_BOTH: Role.BOTH}
_ROLE_NUMBERS = {role: number for number, role in _ROLES.items()}
_PHASE_NUMBERS = {
    Phase.PENDING: pb.PHASE_PENDING,
    Phase.STARTING: pb.PHASE_STARTING,
    Phase.READY: pb.PHASE_READY,
    Phase.DRAINING: pb.PHASE_DRAINING,
    Phase.DEAD: pb.PHASE_DEAD,
}


class PoolsService(rpc.PoolsServicer):
    """Translates; all decisions are the manager's. *now* is the manager's clock."""

    def __init__(self, manager: PoolManager, now: Callable[[], float]) -> None:
        self._manager = manager
        self._now = now

    async def Apply(  # noqa: N802 gRPC's name
        self, request: pb.ApplyRequest, context: Any
    ) -> pb.ApplyReply:
        try:
            self._manager.apply(
                request.generation,
                [_pool(pool) for pool in request.pools],
                [Adapter(adapter.name, adapter.source) for adapter in request.adapters],
            )
        except InvalidPoolError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return pb.ApplyReply()

    async def Get(  # noqa: N802
        self, request: pb.GetRequest, context: Any
    ) -> pb.State:
        return _state(self._manager.snapshot(), self._now())

    async def Watch(  # noqa: N802
        self, request: pb.WatchRequest, context: Any
    ) -> AsyncIterator[pb.State]:
        last = None
        while True:
            snapshot = self._manager.snapshot()
            # The seconds in a phase are always new, and no change.
            seen = _state(snapshot, now=None)
            if seen != last:
                last = seen
                yield _state(snapshot, self._now())
            await asyncio.sleep(WATCH_INTERVAL_SECONDS)

    async def Drain(  # noqa: N802
        self, request: pb.DrainRequest, context: Any
    ) -> pb.DrainReply:
        limit_seconds = request.limit_seconds or DEFAULT_DRAIN_LIMIT_SECONDS
        try:
            self._manager.drain(WorkerId(request.worker_id), limit_seconds)
        except UnknownWorkerError as error:
            await context.abort(grpc.StatusCode.NOT_FOUND, str(error))
        return pb.DrainReply()


def _pool(pool: pb.Pool) -> Pool:
    if pool.role not in _ROLES:
        raise InvalidPoolError("a pool has no role")
    engine = pool.engine
    # proto3 cannot tell 0 or "" from absent; neither is of use here, so they stand for a default.
    given = {
        "tensor_parallel": engine.tensor_parallel,
        "cpus": engine.cpus,
        "gpus": engine.gpus,
        "kv_cache_gib": engine.kv_cache_gib,
        "max_unprefilled": engine.max_unprefilled,
        "connector": engine.connector,
        "transport": engine.transport,
        "compression": engine.compression,
    }
    spec = EngineSpec(
        model=engine.model,
        served_name=engine.served_name or engine.model,
        engine_args=tuple(engine.engine_args),
        kv_events=engine.kv_events,
        unverified=engine.unverified,
        rdma=engine.rdma,
        **{name: value for name, value in given.items() if value},  # type: ignore[arg-type]
    )
    return Pool(
        _ROLES[pool.role],
        pool.revision,
        pool.replicas,
        spec,
        standby=pool.standby,
        resources=tuple(sorted(pool.resources.items())),
    )


def _state(snapshot: Snapshot, now: float | None) -> pb.State:
    return pb.State(
        observed_generation=snapshot.generation,
        pools=[_pool_state(pool, snapshot.members) for pool in snapshot.wanted],
        workers=[_worker_status(member, snapshot.adapters, now) for member in snapshot.members],
    )


def _pool_state(pool: Pool, members: tuple[Member, ...]) -> pb.PoolState:
    ready = [
        member
        for member in members
        if (member.role, member.pool.revision) == (pool.role, pool.revision)
        and member.pool.build == pool.build
        and member.phase is Phase.READY
    ]
    return pb.PoolState(
        role=_ROLE_NUMBERS[pool.role],
        revision=pool.revision,
        desired=pool.replicas,
        ready=len(ready),
    )


def _worker_status(
    member: Member, adapters: tuple[Adapter, ...], now: float | None
) -> pb.WorkerStatus:
    return pb.WorkerStatus(
        worker_id=member.worker_id,
        role=_ROLE_NUMBERS[member.role],
        revision=member.pool.revision,
        phase=_PHASE_NUMBERS[member.phase],
        message=member.message,
        incarnation=member.incarnation,
        address=member.process.address,
        restarts=member.restart_count,
        pid=member.process.pid,
        seconds_in_phase=0.0 if now is None else now - member.since,
        node=member.node,
        standby=member.standby,
        adapters=_adapter_statuses(member, adapters),
        warning=member.process.warning,
    )


def _adapter_statuses(member: Member, wanted: tuple[Adapter, ...]) -> list[pb.AdapterStatus]:
    """Return what is wanted, and what is there no longer wanted."""
    states = {adapter.name: AdapterState(adapter.source) for adapter in wanted}
    states |= {
        name: state for name, state in member.adapters.items() if state.loaded or name in states
    }
    return [
        pb.AdapterStatus(name=name, source=state.source, loaded=state.loaded, message=state.message)
        for name, state in sorted(states.items())
    ]
