import dataclasses

import pytest

from twofold_cluster.identity import Role
from twofold_engine.errors import InvalidPoolError
from twofold_engine.pools.wanting import EngineSpec, Pool, validate

ENGINE = EngineSpec(model="m", served_name="m")
POOL = Pool(Role.PREFILL, "1", 2, ENGINE)


def with_engine(**fields: float) -> Pool:
    engine = dataclasses.replace(ENGINE, **fields)  # type: ignore[arg-type]
    return dataclasses.replace(POOL, revision="3", engine=engine)


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
        ([dataclasses.replace(POOL, replicas=5000)], "5000 replicas"),
        ([dataclasses.replace(POOL, engine=dataclasses.replace(ENGINE, model=""))], "no model"),
        ([dataclasses.replace(POOL, engine=dataclasses.replace(ENGINE, model="n"))], "revision"),
        ([with_engine(kv_cache_gib=-1.0)], "kv_cache_gib is -1.0"),
        ([with_engine(kv_cache_gib=float("nan"))], "kv_cache_gib is nan"),
        ([with_engine(max_unprefilled=0)], "max_unprefilled is 0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(pools: list[Pool], words: str) -> None:
    with pytest.raises(InvalidPoolError, match=words):
        validate(pools, before=[POOL])
