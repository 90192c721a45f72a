"""What is planned and seen, as the gRPC messages of a pool manager have it."""

from twofold_cluster.identity import Role
from twofold_cluster.rpc import pools_pb2 as pb
from twofold_operator.planning.observed import (
    Phase,
    SeenAdapter,
    SeenWorker,
    Told,
    WantedPool,
)

_ROLE_NUMBERS = {
    Role.PREFILL: pb.ROLE_PREFILL,
    Role.DECODE: pb.ROLE_DECODE,
    Role.BOTH: pb.ROLE_BOTH,
}
_ROLES = {number: role for role, number in _ROLE_NUMBERS.items()}
_PHASES = {
    pb.PHASE_PENDING: Phase.PENDING,
    pb.PHASE_STARTING: Phase.STARTING,
    pb.PHASE_READY: Phase.READY,
    pb.PHASE_DRAINING: Phase.DRAINING,
    pb.PHASE_DEAD: Phase.DEAD,
}


def apply_request(generation: int, told: Told) -> pb.ApplyRequest:
    return pb.ApplyRequest(
        generation=generation,
        pools=[_pool(pool) for pool in told.pools],
        adapters=[pb.Adapter(name=one.name, source=one.source) for one in told.adapters],
    )


def seen_workers(state: pb.State) -> tuple[SeenWorker, ...]:
    """Return the workers of *state*; one of a role or phase that is new to us is left out."""
    return tuple(
        _worker(status)
        for status in state.workers
        if status.role in _ROLES and status.phase in _PHASES
    )


def _pool(pool: WantedPool) -> pb.Pool:
    engine = pool.engine
    return pb.Pool(
        role=_ROLE_NUMBERS[pool.role],
        revision=pool.revision,
        replicas=pool.replicas,
        engine=pb.EngineSpec(
            model=engine.model,
            served_name=engine.served_name,
            tensor_parallel=engine.tensor_parallel,
            cpus=engine.cpus,
            gpus=engine.gpus,
            kv_cache_gib=engine.kv_cache_gib,
            engine_args=engine.engine_args,
            kv_events=engine.kv_events,
            connector=engine.connector,
            transport=engine.transport,
            compression=engine.compression,
            unverified=engine.unverified,
            rdma=engine.rdma,
        ),
        standby=pool.standby,
        resources=dict(pool.resources),
    )


def _worker(status: pb.WorkerStatus) -> SeenWorker:
    return SeenWorker(
        worker_id=status.worker_id,
        role=_ROLES[status.role],
        revision=status.revision,
        phase=_PHASES[status.phase],
        standby=status.standby,
        node=status.node,
        message=status.message,
        restarts=status.restarts,
        adapters=tuple(
            SeenAdapter(one.name, one.source, one.loaded, one.message) for one in status.adapters
        ),
        warning=status.warning,
    )
