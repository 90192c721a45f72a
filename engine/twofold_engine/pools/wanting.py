"""What a caller can want: pools of workers, each with a role, a revision and an engine."""

from collections.abc import Sequence
from dataclasses import dataclass

from twofold_cluster.identity import Role
from twofold_engine.errors import InvalidPoolError

MAX_REPLICAS = 4096


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """How the engines of a revision are started; the same for all of them."""

    model: str
    served_name: str
    tensor_parallel: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    kv_cache_gib: float = 1.0
    max_unprefilled: int = 64
    engine_args: tuple[str, ...] = ()
    kv_events: bool = False


@dataclass(frozen=True, slots=True)
class Pool:
    role: Role
    revision: str
    replicas: int
    engine: EngineSpec


def validate(pools: Sequence[Pool], before: Sequence[Pool]) -> None:
    """Check that *pools* can be wanted after *before*.

    Raises:
        InvalidPoolError: two pools of one role and revision, no model, a number out of range, or
            another engine in a revision that has one: that is a new revision.
    """
    seen: set[tuple[Role, str]] = set()
    engines = {pool.revision: pool.engine for pool in before}
    for pool in pools:
        name = f"pool {pool.role}/{pool.revision}"
        if (pool.role, pool.revision) in seen:
            raise InvalidPoolError(f"{name} is there twice")
        if not pool.engine.model:
            raise InvalidPoolError(f"{name} has no model")
        _validate_engine(name, pool.engine)
        if not 0 <= pool.replicas <= MAX_REPLICAS:
            raise InvalidPoolError(f"{name}: {pool.replicas} replicas are not 0 to {MAX_REPLICAS}")
        if engines.setdefault(pool.revision, pool.engine) != pool.engine:
            raise InvalidPoolError(f"{name} changes the engine of its revision; use a new one")
        seen.add((pool.role, pool.revision))


def _validate_engine(name: str, engine: EngineSpec) -> None:
    bounds = {
        "tensor_parallel": (1, 1024),
        "cpus": (0, 4096),
        "gpus": (0, 1024),
        "kv_cache_gib": (1 / 1024, 1024 * 1024),
        "max_unprefilled": (1, 65536),
    }
    for field, (low, high) in bounds.items():
        value = getattr(engine, field)
        # Written so that a NaN is refused too.
        if not low <= value <= high:
            raise InvalidPoolError(f"{name}: {field} is {value}, not {low:g} to {high:g}")
