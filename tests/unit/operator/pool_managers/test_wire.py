"""What is said to pool managers, and what they say."""

from twofold_cluster.identity import Role
from twofold_cluster.rpc import pools_pb2 as pb
from twofold_operator.planning.observed import Told, WantedEngine, WantedPool
from twofold_operator.pool_managers.wire import apply_request, seen_workers


def test_a_manager_is_told_that_rdma_is_asked_for() -> None:
    engine = WantedEngine(model="m", served_name="m", rdma=True)

    request = apply_request(1, Told((WantedPool(Role.DECODE, "1", 1, engine),)))

    assert request.pools[0].engine.rdma


def test_a_workers_warning_is_seen() -> None:
    worker = pb.WorkerStatus(
        worker_id="d", role=pb.ROLE_DECODE, phase=pb.PHASE_READY, warning="no port"
    )

    assert [seen.warning for seen in seen_workers(pb.State(workers=[worker]))] == ["no port"]


def test_a_manager_is_told_how_blocks_may_be_coded() -> None:
    engine = WantedEngine(model="m", served_name="m", compression="int8", unverified=True)

    request = apply_request(1, Told((WantedPool(Role.DECODE, "1", 1, engine),)))

    assert request.pools[0].engine.compression == "int8"
    assert request.pools[0].engine.unverified
