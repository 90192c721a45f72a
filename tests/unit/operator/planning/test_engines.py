"""What a pool manager is told, in vLLM's words."""

from typing import Any

import pytest

from twofold_cluster.identity import Role
from twofold_operator.planning.engines import engine_of, engines_of, model_path, pools_of
from twofold_operator.planning.rollout import Aim
from twofold_operator.resources import LLMService, parse_service


def service(model: dict[str, Any] | None = None, **changes: Any) -> LLMService:
    spec = {
        "model": {"source": "hf://acme/small", **(model or {})},
        "prefill": {"replicas": 1},
        "decode": {"replicas": 1},
        **changes,
    }
    return parse_service({"metadata": {"name": "chat", "namespace": "models"}, "spec": spec})


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("hf://acme/small", "acme/small"),
        ("s3://bucket/a/b", "s3://bucket/a/b"),
        ("pvc://claim/a/b", "/models/a/b"),
        ("pvc://claim", "/models"),
        ("oci://acme/small:1", "/models"),
        ("/opt/model", "/opt/model"),
    ],
)
def test_a_source_is_told_as_vllm_takes_it(source: str, path: str) -> None:
    assert model_path(source) == path


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ({}, ()),
        ({"revision": "main"}, ("--revision=main",)),
        ({"maxModelLen": 4096, "dtype": "float16"}, ("--max-model-len=4096", "--dtype=float16")),
        (
            {"lora": {"maxAdapters": 2, "maxRank": 64}},
            ("--enable-lora", "--max-loras=2", "--max-lora-rank=64"),
        ),
        # The user's own stand last.
        ({"maxModelLen": 64, "engineArgs": ["--seed=1"]}, ("--max-model-len=64", "--seed=1")),
        ({"source": "s3://bucket/a"}, ("--load-format=runai_streamer",)),
    ],
)
def test_a_models_settings_are_vllms_arguments(
    model: dict[str, Any], arguments: tuple[str, ...]
) -> None:
    assert engine_of(service(model), Role.PREFILL).engine_args == arguments


def test_an_engine_without_a_model_gets_the_simulators_arguments() -> None:
    sim = service(engine="sim", sim={"profile": "h100", "args": ["--seed=1"]})

    engine = engine_of(sim, Role.DECODE)

    assert engine.engine_args == ("--profile=h100", "--seed=1")
    assert engine.gpus == 0


def test_each_role_has_its_own_gpus_and_cpus() -> None:
    told = service(
        prefill={"replicas": 1, "resources": {"requests": {"cpu": "250m"}}},
        decode={"replicas": 1, "tensorParallel": 2, "resources": {"limits": {"cpu": "3500m"}}},
    )

    prefill, decode = (engine_of(told, role) for role in (Role.PREFILL, Role.DECODE))

    assert (prefill.gpus, prefill.cpus, prefill.tensor_parallel) == (1, 1, 1)
    assert (decode.gpus, decode.cpus, decode.tensor_parallel) == (2, 3, 2)


def test_a_revision_without_workers_to_come_has_no_pools() -> None:
    assert pools_of(engines_of(service()), "r", Aim(is_leaving=True)) == ()
    assert pools_of(engines_of(service()), "r", Aim(2, 2, is_leaving=True, ends_now=True)) == ()


def test_a_pool_that_is_scaled_to_zero_is_still_a_pool() -> None:
    pools = pools_of(engines_of(service()), "r", Aim(0, 2, standby=True))

    assert [(pool.role, pool.replicas, pool.standby) for pool in pools] == [
        (Role.PREFILL, 0, True),
        (Role.DECODE, 2, True),
    ]


@pytest.mark.parametrize(
    ("changes", "asked"),
    [({}, False), ({"transfer": {"rdma": True}}, True)],
)
def test_workers_know_that_rdma_is_asked_for(changes: dict[str, Any], asked: bool) -> None:
    assert {engine.rdma for engine in engines_of(service(**changes)).values()} == {asked}


def test_simulated_workers_move_nothing_by_rdma() -> None:
    simulated = service(engine="sim", transfer={"rdma": True})

    assert not engine_of(simulated, Role.DECODE).rdma


def test_workers_know_how_blocks_may_be_coded() -> None:
    told = service(transfer={"connector": "twofold", "transport": "tcp", "compression": "fp8"})

    assert {engine.compression for engine in engines_of(told).values()} == {"fp8"}
    assert {engine.compression for engine in engines_of(service()).values()} == {"off"}


def test_workers_compare_what_they_moved_unless_told_otherwise() -> None:
    trusting = service(transfer={"connector": "twofold", "verify": False})

    assert {engine.unverified for engine in engines_of(trusting).values()} == {True}
    assert {engine.unverified for engine in engines_of(service()).values()} == {False}
