import dataclasses

import pytest

from twofold_cluster.identity import Role
from twofold_engine.errors import InvalidPoolError
from twofold_engine.pools.wanting import Adapter, EngineSpec, Pool, validate, validate_adapters

ENGINE = EngineSpec(model="m", served_name="m")
POOL = Pool(Role.PREFILL, "1", 2, ENGINE)


def with_engine(**fields: float | str) -> Pool:
    engine = dataclasses.replace(ENGINE, **fields)  # type: ignore[arg-type]
    return dataclasses.replace(POOL, revision="3", engine=engine)


def with_resources(*resources: tuple[str, float]) -> Pool:
    return dataclasses.replace(POOL, revision="3", resources=resources)


def test_pools_of_two_roles_and_two_revisions_can_be_wanted() -> None:
    other_engine = dataclasses.replace(ENGINE, model="n")

    validate(
        [
            POOL,
            dataclasses.replace(POOL, role=Role.DECODE),
            dataclasses.replace(POOL, revision="2", engine=other_engine),
        ],
        before=[POOL],
    )


@pytest.mark.parametrize(
    ("pools", "words"),
    [
        ([POOL, POOL], "twice"),
        ([dataclasses.replace(POOL, replicas=10_001)], "10001 replicas"),
        ([dataclasses.replace(POOL, engine=dataclasses.replace(ENGINE, model=""))], "no model"),
        ([dataclasses.replace(POOL, engine=dataclasses.replace(ENGINE, model="n"))], "revision"),
        ([dataclasses.replace(POOL, engine=dataclasses.replace(ENGINE, gpus=2.0))], "revision"),
        ([dataclasses.replace(POOL, resources=(("slot", 1.0),))], "resources of its revision"),
        ([with_resources(("slot", 0.0))], "'slot' is 0"),
        ([with_resources(("GPU", 1.0))], "GPU is the engine's"),
        ([with_engine(kv_cache_gib=-1.0)], "kv_cache_gib is -1.0"),
        ([with_engine(kv_cache_gib=float("nan"))], "kv_cache_gib is nan"),
        ([with_engine(max_unprefilled=0)], "max_unprefilled is 0"),
        ([with_engine(connector="smoke")], "connector is smoke, not nixl or twofold"),
        ([with_engine(transport="smoke")], "transport is smoke, not nixl or tcp or nccl"),
        ([with_engine(compression="zip")], "compression is zip, not off or lossless"),
        ([with_engine(compression="int8")], "needs connector twofold and transport tcp"),
    ],
)
def test_what_cannot_be_is_refused_by_name(pools: list[Pool], words: str) -> None:
    with pytest.raises(InvalidPoolError, match=words):
        validate(pools, before=[POOL])


def test_the_roles_of_a_revision_may_have_engines_of_their_own_but_one_model() -> None:
    wider = dataclasses.replace(ENGINE, tensor_parallel=2, gpus=2.0)
    other = dataclasses.replace(ENGINE, model="n")

    validate([POOL, dataclasses.replace(POOL, role=Role.DECODE, engine=wider)], before=[POOL])
    with pytest.raises(InvalidPoolError, match="another model than its revision"):
        validate([POOL, dataclasses.replace(POOL, role=Role.DECODE, engine=other)], before=[])


def test_the_roles_of_a_revision_move_blocks_alike() -> None:
    other = dataclasses.replace(ENGINE, connector="twofold")

    with pytest.raises(InvalidPoolError, match="moves blocks otherwise than its revision"):
        validate([POOL, dataclasses.replace(POOL, role=Role.DECODE, engine=other)], before=[])


def test_a_pool_may_change_its_number_and_its_standby() -> None:
    validate([dataclasses.replace(POOL, replicas=9, standby=True)], before=[POOL])


@pytest.mark.parametrize(
    ("adapters", "words"),
    [
        ([Adapter("", "s")], "needs a name"),
        ([Adapter("a", "")], "needs a name"),
        ([Adapter("a", "s"), Adapter("a", "t")], "adapter a"),
        ([Adapter("m", "s")], "adapter m"),
        ([Adapter(str(number), "s") for number in range(1001)], "1001 adapters"),
    ],
)
def test_adapters_that_cannot_be_are_refused(adapters: list[Adapter], words: str) -> None:
    with pytest.raises(InvalidPoolError, match=words):
        validate_adapters(adapters, [POOL])
