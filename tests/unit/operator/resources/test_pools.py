import pytest

from twofold_operator.resources import Pool, ResourceRequirements
from twofold_operator.resources.model import EngineKind


@pytest.mark.parametrize(
    ("pool", "replicas"),
    [(Pool(), 1), (Pool(min_replicas=3), 3), (Pool(replicas=0), 0), (Pool(replicas=2), 2)],
)
def test_a_pool_starts_with_its_replicas_or_the_least(pool: Pool, replicas: int) -> None:
    assert pool.start_replicas == replicas


@pytest.mark.parametrize(("wanted", "replicas"), [(0, 2), (2, 2), (3, 3), (9, 4)])
def test_a_pool_keeps_to_its_bounds(wanted: int, replicas: int) -> None:
    assert Pool(min_replicas=2, max_replicas=4).clamp(wanted) == replicas


def test_a_pool_without_bounds_is_scaled_at_will() -> None:
    assert [Pool().clamp(replicas) for replicas in (0, 7)] == [0, 7]


@pytest.mark.parametrize(
    ("pool", "engine", "gpus"),
    [
        (Pool(tensor_parallel=4), "vllm", 4),
        (Pool(tensor_parallel=4), "sim", 0),
        (Pool(resources=ResourceRequirements(limits={"nvidia.com/gpu": 0})), "vllm", 0),
        (Pool(resources=ResourceRequirements(limits={"nvidia.com/gpu": "2"})), "sim", 2),
        (
            Pool(gpu_resource="amd.com/gpu", resources=ResourceRequirements(limits={"x": 8})),
            "vllm",
            1,
        ),
    ],
)
def test_a_worker_takes_the_gpus_that_its_model_is_spread_over(
    pool: Pool, engine: EngineKind, gpus: int
) -> None:
    assert pool.gpus(engine) == gpus
