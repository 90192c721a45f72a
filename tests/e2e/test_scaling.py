"""The pool manager is told over gRPC what to want, as an operator will tell it.

After the kills in alphabetical order: it replaces workers too.
"""

import os

import grpc
import pytest

from twofold_cli.following import cores_each
from twofold_cluster.rpc import pools_pb2 as pb
from twofold_cluster.rpc.pools_pb2_grpc import PoolsStub

from .conftest import Cluster

START_LIMIT_SECONDS = 300.0

pytestmark = pytest.mark.engine


class Pools:
    """Wants numbers of workers, with the engine that the cluster was started with."""

    def __init__(self, cluster: Cluster, stub: PoolsStub) -> None:
        self._cluster = cluster
        self._stub = stub
        self._generation = 1000
        self._engine = pb.EngineSpec(
            model=cluster.status()["model"],
            served_name="smollm2",
            tensor_parallel=1,
            cpus=cores_each(os.cpu_count() or 1, worker_count=2),
            kv_cache_gib=1,
            engine_args=["--max-model-len", "2048"],
            kv_events=True,
        )

    def want(self, *, prefill: int, decode: int, seconds: float) -> pb.State:
        """Apply, and wait until it is so."""
        self._generation += 1
        counts = [(pb.ROLE_PREFILL, prefill), (pb.ROLE_DECODE, decode)]
        pools = [
            pb.Pool(role=role, revision="1", replicas=count, engine=self._engine)
            for role, count in counts
        ]
        self._stub.Apply(pb.ApplyRequest(generation=self._generation, pools=pools))
        self._cluster.until(self._settled, seconds=seconds, what=f"{prefill} + {decode} workers")
        return self.state()

    def state(self) -> pb.State:
        return self._stub.Get(pb.GetRequest())

    def _settled(self) -> bool:
        state = self.state()
        is_ready = all(pool.ready == pool.desired for pool in state.pools)
        return is_ready and len(state.workers) == sum(pool.desired for pool in state.pools)


def test_roles_change_without_a_reload_and_a_worker_too_many_drains(cluster: Cluster) -> None:
    with grpc.insecure_channel(cluster.status()["grpc_address"]) as channel:
        pools = Pools(cluster, PoolsStub(channel))
        before = {w.worker_id: w.pid for w in pools.state().workers}

        both_decode = pools.want(prefill=0, decode=2, seconds=60)
        cluster.until(
            lambda: cluster.complete("Hello").headers.get("x-twofold-mode") == "fallback",
            seconds=60,
            what="the router sees that nobody prefills",
        )
        assert {w.worker_id: w.pid for w in both_decode.workers} == before

        apart = pools.want(prefill=1, decode=1, seconds=60)
        cluster.until_disaggregated(seconds=60)
        assert {w.worker_id: w.pid for w in apart.workers} == before

        alone = pools.want(prefill=0, decode=1, seconds=60)
        assert len(alone.workers) == 1

        pools.want(prefill=1, decode=1, seconds=START_LIMIT_SECONDS)
        cluster.forget_addresses()
        cluster.until_disaggregated(seconds=60)
