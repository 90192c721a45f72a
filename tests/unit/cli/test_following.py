import msgspec

from twofold_cli.following import cores_each, wanted_pools, worker_state
from twofold_cli.settings import Settings
from twofold_cli.state import Phase
from twofold_cluster.identity import Role
from twofold_cluster.rpc import pools_pb2

SETTINGS = Settings(
    model="/m",
    served_name="m",
    device="cpu",
    valkey_command=("valkey",),
    prefill=2,
    decode=3,
    kv_cache_gib=0.5,
    connector="twofold",
    transport="tcp",
    compression="int8",
    verify=False,
    engine_args=("--seed=1",),
)


def test_each_role_gets_a_pool_with_the_same_engine() -> None:
    prefill, decode = wanted_pools(SETTINGS)

    assert (prefill.role, prefill.replicas) == (pools_pb2.ROLE_PREFILL, 2)
    assert (decode.role, decode.replicas) == (pools_pb2.ROLE_DECODE, 3)
    assert prefill.engine == decode.engine
    assert prefill.engine.cpus >= 1
    assert prefill.engine.gpus == 0
    assert prefill.engine.kv_cache_gib == 0.5
    assert list(prefill.engine.engine_args) == ["--seed=1"]
    assert (prefill.engine.connector, prefill.engine.transport) == ("twofold", "tcp")
    assert prefill.engine.compression == "int8"
    assert prefill.engine.unverified


def test_the_cores_are_shared_out_and_no_engine_goes_without() -> None:
    assert cores_each(8, worker_count=2) == 4
    assert cores_each(2, worker_count=5) == 1


def test_on_a_gpu_each_worker_has_one_and_vllm_sizes_its_cache() -> None:
    (engine, _) = (p.engine for p in wanted_pools(msgspec.structs.replace(SETTINGS, device="cuda")))

    assert (engine.gpus, engine.kv_cache_gib) == (1, 0)


def test_without_prefill_workers_there_is_no_pool_of_them() -> None:
    (pool,) = wanted_pools(msgspec.structs.replace(SETTINGS, prefill=0))

    assert pool.role == pools_pb2.ROLE_DECODE


def status(seconds: float, phase: "pools_pb2.Phase.ValueType") -> pools_pb2.WorkerStatus:
    return pools_pb2.WorkerStatus(
        worker_id="w", role=pools_pb2.ROLE_DECODE, phase=phase, seconds_in_phase=seconds
    )


def test_a_phase_keeps_its_beginning_though_the_seconds_count_on() -> None:
    first = worker_state(status(2.0, pools_pb2.PHASE_STARTING), None, now=100.0)
    later = worker_state(status(7.5, pools_pb2.PHASE_STARTING), first, now=105.0)

    assert (first.role, first.phase, first.since) == (Role.DECODE, Phase.STARTING, 98.0)
    assert later == first


def test_a_new_phase_has_its_own_beginning() -> None:
    first = worker_state(status(2.0, pools_pb2.PHASE_STARTING), None, now=100.0)
    later = worker_state(status(1.0, pools_pb2.PHASE_READY), first, now=105.0)

    assert later.since == 104.0
