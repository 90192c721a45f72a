"""Pool managers that have no Ray: what an operator tells them happens to workers that are names."""

import threading
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc

from twofold_cluster.identity import Role
from twofold_cluster.rpc import pools_pb2 as pb
from twofold_cluster.rpc import pools_pb2_grpc as rpc
from twofold_operator.planning.observed import (
    Phase,
    SeenWorker,
    Told,
    WantedAdapter,
    WantedEngine,
    WantedPool,
)
from twofold_operator.planning.testing import ManagerDouble

LOOK_SECONDS = 0.5
PINGS = (
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
)
"""An operator asks whether the connection lives, as often as the real manager permits it."""
_ROLES = {pb.ROLE_PREFILL: Role.PREFILL, pb.ROLE_DECODE: Role.DECODE}
_NUMBERS = {role: number for number, role in _ROLES.items()}
_PHASES = {
    Phase.PENDING: pb.PHASE_PENDING,
    Phase.STARTING: pb.PHASE_STARTING,
    Phase.READY: pb.PHASE_READY,
    Phase.DRAINING: pb.PHASE_DRAINING,
    Phase.DEAD: pb.PHASE_DEAD,
}


class StandInManager(rpc.PoolsServicer):
    """A gRPC server on a port of its own before the double that tests of the plan use."""

    def __init__(self, prefix: str) -> None:
        self._double = ManagerDouble(prefix)
        self._generation = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=PINGS)
        rpc.add_PoolsServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._server.stop(grace=None).wait()

    def live(self, free_node: Callable[[Role], str | None], *, is_broken: bool) -> None:
        """Let the workers go one step further."""
        with self._changed:
            before = list(self._double.workers)
            self._double.is_broken = is_broken
            self._double.live(free_node)
            if self._double.workers != before:
                self._changed.notify_all()

    @property
    def workers(self) -> list[SeenWorker]:
        with self._changed:
            return list(self._double.workers)

    @property
    def told(self) -> Told | None:
        with self._changed:
            return self._double.told

    def Apply(  # noqa: N802 gRPC's
        self, request: pb.ApplyRequest, context: grpc.ServicerContext
    ) -> pb.ApplyReply:
        with self._changed:
            if request.generation < self._generation:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, "a smaller generation")
            self._generation = request.generation
            self._double.told = _told(request)
            self._changed.notify_all()
        return pb.ApplyReply()

    def Watch(  # noqa: N802 gRPC's
        self, request: pb.WatchRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.State]:
        sent: pb.State | None = None
        while context.is_active() and not self._is_closed:
            with self._changed:
                state = self._state()
                if state == sent:
                    self._changed.wait(LOOK_SECONDS)
                    continue
            sent = state
            yield state

    def Get(  # noqa: N802 gRPC's
        self, request: pb.GetRequest, context: grpc.ServicerContext
    ) -> pb.State:
        with self._changed:
            return self._state()

    def Drain(  # noqa: N802 gRPC's
        self, request: pb.DrainRequest, context: grpc.ServicerContext
    ) -> pb.DrainReply:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "no operator asks for it")

    def _state(self) -> pb.State:
        return pb.State(
            observed_generation=self._generation,
            workers=[_status(worker) for worker in self._double.workers],
        )


def _told(request: pb.ApplyRequest) -> Told:
    return Told(
        tuple(
            WantedPool(
                role=_ROLES[pool.role],
                revision=pool.revision,
                replicas=pool.replicas,
                engine=WantedEngine(pool.engine.model, pool.engine.served_name),
                standby=pool.standby,
            )
            for pool in request.pools
        ),
        tuple(WantedAdapter(one.name, one.source) for one in request.adapters),
    )


def _status(worker: SeenWorker) -> pb.WorkerStatus:
    return pb.WorkerStatus(
        worker_id=worker.worker_id,
        role=_NUMBERS[worker.role],
        revision=worker.revision,
        phase=_PHASES[worker.phase],
        message=worker.message,
        node=worker.node,
        standby=worker.standby,
        adapters=[
            pb.AdapterStatus(
                name=one.name, source=one.source, loaded=one.loaded, message=one.message
            )
            for one in worker.adapters
        ],
    )
