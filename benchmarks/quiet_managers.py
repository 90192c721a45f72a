"""Pool managers without Ray, many in one process: what they are told is so at once.

For benchmarks of the operator, which talks to each of them over a connection of its own.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any, Self, TypeVar

import grpc

from twofold_cluster.identity import Role
from twofold_cluster.rpc import pools_pb2 as pb
from twofold_cluster.rpc import pools_pb2_grpc as rpc

Result = TypeVar("Result")

START_SECONDS = 60.0
_PINGS = (
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
)


_GROUPS = {pb.ROLE_PREFILL: str(Role.PREFILL), pb.ROLE_DECODE: str(Role.DECODE)}


def pod_name(cluster: str, group: str, number: int) -> str:
    """Return the name of a pod of a RayCluster, which is its worker's node."""
    return f"{cluster}-{group}-{number}"


class QuietManager(rpc.PoolsServicer):
    """Has all workers that it is told to have, ready."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._state = pb.State()
        self._changed = asyncio.Event()

    async def Apply(  # noqa: N802 gRPC's
        self, request: pb.ApplyRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.ApplyReply:
        self._state = pb.State(
            observed_generation=request.generation,
            workers=[worker for pool in request.pools for worker in self._workers(pool)],
        )
        before, self._changed = self._changed, asyncio.Event()
        before.set()
        return pb.ApplyReply()

    async def Watch(  # noqa: N802 gRPC's
        self, request: pb.WatchRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> AsyncIterator[pb.State]:
        while True:
            changed = self._changed
            yield self._state
            await changed.wait()

    async def Get(  # noqa: N802 gRPC's
        self, request: pb.GetRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.State:
        return self._state

    async def Drain(  # noqa: N802 gRPC's
        self, request: pb.DrainRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.DrainReply:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no operator asks for it")

    def _workers(self, pool: pb.Pool) -> Iterable[pb.WorkerStatus]:
        for number in range(pool.replicas):
            name = pod_name(self._prefix, _GROUPS[pool.role], number)
            yield pb.WorkerStatus(
                worker_id=name,
                role=pool.role,
                revision=pool.revision,
                phase=pb.PHASE_READY,
                node=name,
                standby=pool.standby,
            )


class QuietManagers:
    """All managers, in an event loop of their own thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._servers: list[grpc.aio.Server] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def add(self, prefix: str) -> int:
        """Start one, and return its port."""
        return self._call(self._add(prefix))

    async def _add(self, prefix: str) -> int:
        server = grpc.aio.server(options=_PINGS)
        rpc.add_PoolsServicer_to_server(QuietManager(prefix), server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        self._servers.append(server)
        return port

    async def _stop(self) -> None:
        await asyncio.gather(*(server.stop(None) for server in self._servers))

    def _call(self, coroutine: "Coroutine[Any, Any, Result]") -> Result:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(START_SECONDS)
