"""Tell the pool manager what to want, and follow what it says of its workers."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping

import grpc

from twofold_cli.settings import Settings
from twofold_cli.state import Phase, WorkerState
from twofold_cluster.identity import Role
from twofold_cluster.rpc import pools_pb2, pools_pb2_grpc

ANSWER_TIMEOUT_SECONDS = 10.0
QUIET_SECONDS = 15.0
"""After a silence this long the manager is asked whether it is there: a quiet watch and a dead
one look alike."""
RETRY_SECONDS = 0.3

REVISION = "1"
"""A local cluster has one revision for its life."""

_ROLES: Mapping[int, Role] = {
    pools_pb2.ROLE_PREFILL: Role.PREFILL,
    pools_pb2.ROLE_DECODE: Role.DECODE,
    pools_pb2.ROLE_BOTH: Role.BOTH,
}
_PHASES: Mapping[int, Phase] = {
    pools_pb2.PHASE_PENDING: Phase.PENDING,
    pools_pb2.PHASE_STARTING: Phase.STARTING,
    pools_pb2.PHASE_READY: Phase.READY,
    pools_pb2.PHASE_DRAINING: Phase.DRAINING,
    pools_pb2.PHASE_DEAD: Phase.DEAD,
}

LOOPBACK_OPTIONS = (("grpc.enable_http_proxy", 0),)
"""A proxy's loopback is not ours."""

_log = logging.getLogger(__name__)


def wanted_pools(settings: Settings) -> list[pools_pb2.Pool]:
    """Return a pool for each role that has workers."""
    on_gpu = settings.device == "cuda"
    engine = pools_pb2.EngineSpec(
        model=settings.model,
        served_name=settings.served_name,
        tensor_parallel=1,
        cpus=cores_each(os.cpu_count() or 1, settings.prefill + settings.decode),
        gpus=1 if on_gpu else 0,
        kv_cache_gib=settings.kv_cache_gib if settings.device == "cpu" else 0,
        engine_args=settings.engine_args,
        kv_events=settings.kv_events,
        connector=settings.connector,
        transport=settings.transport,
        compression=settings.compression,
        unverified=not settings.verify,
    )
    counts = [
        (pools_pb2.ROLE_PREFILL, settings.prefill),
        (pools_pb2.ROLE_DECODE, settings.decode),
    ]
    return [
        pools_pb2.Pool(role=role, revision=REVISION, replicas=count, engine=engine)
        for role, count in counts
        if count
    ]


def cores_each(core_count: int, worker_count: int) -> int:
    """Share the cores out: an engine computes on as many as it gets, and none goes without."""
    return max(1, core_count // worker_count)


class PoolsFollower:
    """Follows the pool manager through all its lives.

    Each life of the manager is told once what to want; the generation grows with each.
    """

    def __init__(
        self,
        address: str,
        settings: Settings,
        *,
        life: Callable[[], int],
        on_answer: Callable[[], None],
        on_silence: Callable[[], None],
        on_refusal: Callable[[str], None],
        on_workers: Callable[[tuple[WorkerState, ...]], None],
    ) -> None:
        self._address = address
        self._pools = wanted_pools(settings)
        self._life = life
        self._on_answer = on_answer
        self._on_silence = on_silence
        self._on_refusal = on_refusal
        self._on_workers = on_workers
        self._generation = 0
        self._workers: dict[str, WorkerState] = {}

    async def run(self) -> None:
        """Follow until cancelled."""
        applied_to = 0
        while True:
            life = self._life()
            try:
                async with grpc.aio.insecure_channel(
                    self._address, options=LOOPBACK_OPTIONS
                ) as channel:
                    stub = pools_pb2_grpc.PoolsStub(channel)
                    if applied_to != life:
                        await self._apply(stub)
                        applied_to = life
                    await self._get(stub)
                    await self._watch(stub)
            except (grpc.aio.AioRpcError, TimeoutError) as error:
                _log.debug("not following", extra={"error": repr(error)})
                if applied_to == life:  # before, it is only not there yet
                    self._on_silence()
            await asyncio.sleep(RETRY_SECONDS)

    async def _apply(self, stub: "pools_pb2_grpc.PoolsAsyncStub") -> None:
        request = pools_pb2.ApplyRequest(generation=self._generation + 1, pools=self._pools)
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
                await stub.Apply(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                self._on_refusal(error.details() or "no reason given")
            raise
        self._generation = request.generation
        _log.info("applied", extra={"generation": request.generation})

    async def _get(self, stub: "pools_pb2_grpc.PoolsAsyncStub") -> None:
        async with asyncio.timeout(ANSWER_TIMEOUT_SECONDS):
            self._hear(await stub.Get(pools_pb2.GetRequest()))
        self._on_answer()

    async def _watch(self, stub: "pools_pb2_grpc.PoolsAsyncStub") -> None:
        call = stub.Watch(pools_pb2.WatchRequest())
        try:
            while True:
                async with asyncio.timeout(QUIET_SECONDS):
                    state = await call.read()
                if not isinstance(state, pools_pb2.State):  # the end of the stream
                    return
                self._hear(state)
        except TimeoutError:
            return
        finally:
            call.cancel()

    def _hear(self, state: pools_pb2.State) -> None:
        now = time.time()
        self._workers = {
            status.worker_id: worker_state(status, self._workers.get(status.worker_id), now)
            for status in state.workers
        }
        self._on_workers(tuple(self._workers[name] for name in sorted(self._workers)))


def worker_state(
    status: pools_pb2.WorkerStatus, before: WorkerState | None, now: float
) -> WorkerState:
    """Translate *status*. The phase's beginning is kept while the phase is, so that nothing seems
    to change when only time has passed."""
    phase = _PHASES.get(status.phase, Phase.PENDING)
    same = before is not None and before.phase is phase and before.restarts == status.restarts
    return WorkerState(
        worker_id=status.worker_id,
        role=_ROLES.get(status.role, Role.BOTH),
        phase=phase,
        message=status.message,
        restarts=status.restarts,
        address=status.address,
        pid=status.pid,
        since=before.since if same and before is not None else now - status.seconds_in_phase,
    )
