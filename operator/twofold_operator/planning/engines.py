"""What a pool manager is told of a service: pools, engines and adapters in vLLM's words."""

from collections.abc import Iterable, Mapping

from twofold_cluster.identity import Role
from twofold_operator.planning.observed import WantedAdapter, WantedEngine, WantedPool
from twofold_operator.planning.rollout import ROLES, Aim
from twofold_operator.resources import (
    LLMService,
    LLMServiceSpec,
    LoRAAdapter,
    Pool,
    PoolRole,
    Source,
    parse_quantity,
    parse_source,
)

MODEL_PATH = "/models"
"""Where a pod has what a pvc:// or oci:// source names."""

DEFAULT_CPUS = 1.0


def source_of(text: str) -> Source:
    """Take a source apart that is known to be good."""
    return parse_source(text, "source")


def model_path(text: str) -> str:
    """Return a model's source as vLLM takes it."""
    source = source_of(text)
    match source.scheme:
        case "pvc" | "oci":
            return f"{MODEL_PATH}/{source.path}".rstrip("/")
        case "hf":
            return source.location
        case _:
            return text


def engines_of(service: LLMService) -> dict[Role, WantedEngine]:
    return {role: engine_of(service, role) for role in ROLES}


def pools_of(
    engines: Mapping[Role, WantedEngine], revision: str, aim: Aim
) -> tuple[WantedPool, ...]:
    """Return the pools of one revision; none of them when it leaves with nothing."""
    if aim.ends_now or (aim.is_leaving and not aim.prefill and not aim.decode):
        return ()
    return tuple(
        WantedPool(
            role=role,
            revision=revision,
            replicas=aim.of(role),
            engine=engines[role],
            standby=aim.standby,
            resources=((ray_resource(role), 1.0),),
        )
        for role in ROLES
    )


def ray_resource(role: Role) -> str:
    """Return the Ray resource of which each pod for *role* has one."""
    return f"twofold_{role}"


def pool_of(spec: LLMServiceSpec, role: Role) -> Pool:
    name: PoolRole = "prefill" if role is Role.PREFILL else "decode"
    return spec.pool(name)


def engine_of(service: LLMService, role: Role) -> WantedEngine:
    spec = service.spec
    pool = pool_of(spec, role)
    sim = spec.engine == "sim"
    return WantedEngine(
        model=service.served_name if sim else model_path(spec.model.source),
        served_name=service.served_name,
        tensor_parallel=pool.tensor_parallel,
        cpus=cpus_of(pool),
        gpus=float(pool.gpus(spec.engine)),
        engine_args=_sim_arguments(spec) if sim else _vllm_arguments(spec),
        kv_events=spec.observability.kv_events,
        connector=spec.transfer.connector,
        transport=spec.transfer.transport,
        compression=spec.transfer.compression,
        unverified=not spec.transfer.verify,
        rdma=spec.transfer.rdma and not sim,
    )


def cpus_of(pool: Pool) -> float:
    """Return how many whole CPUs a worker counts with; at least 1, as an engine needs a thread."""
    told = pool.resources.limits.get("cpu", pool.resources.requests.get("cpu"))
    return DEFAULT_CPUS if told is None else max(1.0, float(int(parse_quantity(told))))


def adapters_of(adapters: Iterable[LoRAAdapter]) -> tuple[WantedAdapter, ...]:
    """Return what the managers are told of *adapters*, in order of their names."""
    return tuple(
        WantedAdapter(name, model_path(source))
        for name, source in sorted((a.served_name, a.spec.source) for a in adapters)
    )


def _sim_arguments(spec: LLMServiceSpec) -> tuple[str, ...]:
    return (f"--profile={spec.simulator.profile}", *spec.simulator.args)


def _vllm_arguments(spec: LLMServiceSpec) -> tuple[str, ...]:
    model = spec.model
    arguments: list[str] = []
    if model.revision is not None:
        arguments.append(f"--revision={model.revision}")
    if model.max_model_len is not None:
        arguments.append(f"--max-model-len={model.max_model_len}")
    if model.dtype != "auto":
        arguments.append(f"--dtype={model.dtype}")
    if source_of(model.source).scheme == "s3":
        arguments.append("--load-format=runai_streamer")
    if model.lora is not None:
        arguments += ["--enable-lora", f"--max-loras={model.lora.max_adapters}"]
        arguments.append(f"--max-lora-rank={model.lora.max_rank}")
    return (*arguments, *model.engine_args)
