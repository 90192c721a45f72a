"""What a caller can want: pools of workers, each with a role, a revision and an engine."""

from collections.abc import Sequence
from dataclasses import dataclass

from twofold_cluster.identity import Role
from twofold_engine.errors import InvalidPoolError
from twofold_engine.settings import MOVERS, compression_lack

MAX_REPLICAS = 10_000
MAX_ADAPTERS = 1000


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """How the engines of a pool are started."""

    model: str
    served_name: str
    tensor_parallel: int = 1
    cpus: float = 1.0
    gpus: float = 0.0
    kv_cache_gib: float = 1.0
    max_unprefilled: int = 64
    engine_args: tuple[str, ...] = ()
    kv_events: bool = False
    connector: str = "nixl"
    transport: str = "nixl"
    compression: str = "off"
    unverified: bool = False
    rdma: bool = False


@dataclass(frozen=True, slots=True)
class Build:
    """What a worker is made of and where it may be: two pools of one build can share workers.

    ``resources`` are Ray's, by name in alphabetical order, beside CPUs and GPUs.
    """

    engine: EngineSpec
    resources: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Pool:
    """``standby``: its workers are up, and take no new requests."""

    role: Role
    revision: str
    replicas: int
    engine: EngineSpec
    standby: bool = False
    resources: tuple[tuple[str, float], ...] = ()

    @property
    def build(self) -> Build:
        return Build(self.engine, self.resources)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter that every worker shall have. ``source``: as vLLM takes it."""

    name: str
    source: str


def validate(pools: Sequence[Pool], before: Sequence[Pool]) -> None:
    """Check that *pools* can be wanted after *before*.

    Raises:
        InvalidPoolError: two pools of one role and revision, no model, a number out of range, an
            unknown connector, another build in a pool that has one, or another model or connector
            in its revision: that is a new revision.
    """
    seen: set[tuple[Role, str]] = set()
    builds = {(pool.role, pool.revision): pool.build for pool in before}
    models = {pool.revision: _model(pool) for pool in before}
    movers = {pool.revision: _mover(pool) for pool in before}
    for pool in pools:
        name = f"pool {pool.role}/{pool.revision}"
        if (pool.role, pool.revision) in seen:
            raise InvalidPoolError(f"{name} is there twice")
        if not pool.engine.model:
            raise InvalidPoolError(f"{name} has no model")
        _validate_engine(name, pool.engine)
        _validate_resources(name, pool)
        if not 0 <= pool.replicas <= MAX_REPLICAS:
            raise InvalidPoolError(f"{name}: {pool.replicas} replicas are not 0 to {MAX_REPLICAS}")
        if models.setdefault(pool.revision, _model(pool)) != _model(pool):
            raise InvalidPoolError(f"{name} has another model than its revision; use a new one")
        if movers.setdefault(pool.revision, _mover(pool)) != _mover(pool):
            raise InvalidPoolError(
                f"{name} moves blocks otherwise than its revision; use a new one"
            )
        if builds.setdefault((pool.role, pool.revision), pool.build) != pool.build:
            raise InvalidPoolError(
                f"{name} changes the engine or the resources of its revision; use a new one"
            )
        seen.add((pool.role, pool.revision))


def validate_adapters(adapters: Sequence[Adapter], pools: Sequence[Pool]) -> None:
    """Check that *adapters* can be wanted beside *pools*.

    Raises:
        InvalidPoolError: no name, no source, a name that is taken, or too many.
    """
    if len(adapters) > MAX_ADAPTERS:
        raise InvalidPoolError(f"{len(adapters)} adapters are more than {MAX_ADAPTERS}")
    taken = {pool.engine.served_name for pool in pools}
    for adapter in adapters:
        if not adapter.name or not adapter.source:
            raise InvalidPoolError(f"adapter {adapter.name!r} needs a name and a source")
        if adapter.name in taken:
            raise InvalidPoolError(f"adapter {adapter.name}: a model of this name is there")
        taken.add(adapter.name)


def _model(pool: Pool) -> tuple[str, str]:
    return pool.engine.model, pool.engine.served_name


def _mover(pool: Pool) -> tuple[str, str, str]:
    """Prefill and decode workers of a revision must move blocks alike."""
    return pool.engine.connector, pool.engine.transport, pool.engine.compression


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
    for field, known in MOVERS.items():
        if (given := getattr(engine, field)) not in known:
            raise InvalidPoolError(f"{name}: {field} is {given}, not {' or '.join(known)}")
    if lack := compression_lack(engine.compression, engine.connector, engine.transport):
        raise InvalidPoolError(f"{name}: {lack}")


def _validate_resources(name: str, pool: Pool) -> None:
    for resource, amount in pool.resources:
        if resource in ("CPU", "GPU"):
            raise InvalidPoolError(f"{name}: {resource} is the engine's cpus and gpus")
        if not resource or not 0 < amount <= 1024 * 1024:
            raise InvalidPoolError(f"{name}: resource {resource!r} is {amount}")
