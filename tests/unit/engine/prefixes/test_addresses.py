from tests.unit.engine.prefixes.workers import P0, a_worker

from twofold_cluster.worker import Engine
from twofold_engine.prefixes.addresses import prefixes_address, rank_address


def test_a_workers_own_service_has_the_port_after_its_last_ranks() -> None:
    worker = a_worker(P0, kv_transfer="[::1]:7000", engine=Engine("v", "c", tensor_parallel=2))

    assert [rank_address(worker, rank) for rank in (0, 1)] == ["[::1]:7000", "[::1]:7001"]
    assert prefixes_address(worker) == "[::1]:7002"
