"""What the schema and the rules of the CRDs cannot see, or an old API server does not check."""

import re
from collections.abc import Mapping
from decimal import Decimal

from twofold_operator.resources.errors import InvalidSpecError
from twofold_operator.resources.lora_adapter import LoRAAdapter
from twofold_operator.resources.model import EngineKind, Images, Model
from twofold_operator.resources.owned_arguments import (
    SIM_ARGUMENTS,
    VLLM_ARGUMENTS,
    check_arguments,
)
from twofold_operator.resources.pools import Pool
from twofold_operator.resources.quantities import parse_quantity
from twofold_operator.resources.ray import Ray
from twofold_operator.resources.service import LLMService, LLMServiceSpec
from twofold_operator.resources.serving import Gateway, Slo, Transfer
from twofold_operator.resources.sources import parse_source
from twofold_operator.resources.templates import check_ray_template, check_template
from twofold_operator.resources.wire import ResourceRequirements

MAX_NAME_LENGTH = 40
"""Of an LLMService: names of children, such as NAME-REVISION-pools, must fit 63 characters."""
NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
"""A Service has the name, and a Service's begins with a letter and has no dot."""

CONNECTORS = ("nixl", "twofold")
"""Those that this version has code for."""

_IMAGE = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]{1,5})?(/[a-z0-9][a-z0-9._-]*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?"
)


def check_service(service: LLMService) -> None:
    """See that *service* can be made.

    Raises:
        InvalidSpecError: it cannot; the first field that is in the way is named.
    """
    name, spec = service.metadata.name, service.spec
    if len(name) > MAX_NAME_LENGTH or not re.fullmatch(NAME_PATTERN, name):
        raise InvalidSpecError(
            "metadata.name",
            f"{name!r} must have at most {MAX_NAME_LENGTH} characters: letters, digits and '-', "
            "a letter first",
        )
    _check_model(spec.model)
    _check_engine(spec)
    _check_images(spec.images)
    _check_pools(spec)
    if spec.transfer.connector not in CONNECTORS:
        raise InvalidSpecError(
            "spec.transfer.connector",
            f"this version has no {spec.transfer.connector!r}; use {', '.join(CONNECTORS)}",
        )
    _check_compression(spec.transfer)
    _check_classes(spec.slo)
    _check_ray(spec.ray)
    _check_gateway(spec.gateway)


def _check_compression(transfer: Transfer) -> None:
    coded = transfer.compression != "off"
    if coded and (transfer.connector, transfer.transport) != ("twofold", "tcp"):
        raise InvalidSpecError(
            "spec.transfer.compression",
            f"{transfer.compression!r} needs connector twofold and transport tcp",
        )


def check_lora_adapter(adapter: LoRAAdapter) -> None:
    """See that *adapter* can be loaded.

    Raises:
        InvalidSpecError: it cannot.
    """
    source = parse_source(adapter.spec.source, "spec.source")
    if source.scheme not in ("hf", "path"):
        raise InvalidSpecError(
            "spec.source",
            f"no running engine can reach {source.scheme}://; use hf://, or a path that a "
            "podTemplate of the service has mounted",
        )


def _check_model(model: Model) -> None:
    source = parse_source(model.source, "spec.model.source")
    if model.revision is not None and source.scheme != "hf":
        raise InvalidSpecError("spec.model.revision", "only a hf:// source has revisions")
    check_arguments(model.engine_args, VLLM_ARGUMENTS, "spec.model.engineArgs")


def _check_engine(spec: LLMServiceSpec) -> None:
    if spec.engine == "sim":
        if spec.model.engine_args:
            raise InvalidSpecError(
                "spec.model.engineArgs", "these are vLLM's; spec.sim.args are the simulator's"
            )
        if spec.sim is not None:
            check_arguments(spec.sim.args, SIM_ARGUMENTS, "spec.sim.args")
    elif spec.sim is not None:
        raise InvalidSpecError("spec.sim", "has no meaning unless spec.engine is sim")


def _check_images(images: Images) -> None:
    for field, image in (("worker", images.worker), ("router", images.router)):
        if image is not None and not _IMAGE.fullmatch(image):
            raise InvalidSpecError(
                f"spec.images.{field}", f"{image!r} does not read REPOSITORY:TAG or @sha256:DIGEST"
            )


def _check_pools(spec: LLMServiceSpec) -> None:
    _check_pool(spec.prefill, spec.engine, "spec.prefill")
    _check_pool(spec.decode, spec.engine, "spec.decode")
    prefill, decode = spec.prefill.tensor_parallel, spec.decode.tensor_parallel
    if decode % prefill:
        raise InvalidSpecError(
            "spec.decode.tensorParallel",
            f"{decode} must be a multiple of spec.prefill.tensorParallel, {prefill}",
        )
    if spec.decode.start_replicas == 0 and spec.prefill.start_replicas > 0:
        raise InvalidSpecError("spec.decode.replicas", "prefill workers alone answer nothing")


def _check_pool(pool: Pool, engine: EngineKind, field: str) -> None:
    low, high = pool.min_replicas, pool.max_replicas
    if low is not None and high is not None and low > high:
        raise InvalidSpecError(f"{field}.minReplicas", f"{low} is above maxReplicas, {high}")
    if pool.clamp(pool.start_replicas) != pool.start_replicas:
        raise InvalidSpecError(
            f"{field}.replicas", f"{pool.start_replicas} is not within minReplicas and maxReplicas"
        )
    _check_resources(pool.resources, f"{field}.resources")
    _check_gpus(pool, engine, field)
    check_ray_template(pool.pod_template, f"{field}.podTemplate")


def _check_gpus(pool: Pool, engine: EngineKind, field: str) -> None:
    if pool.gpu_resource in pool.resources.requests:
        raise InvalidSpecError(
            f"{field}.resources.requests", f"{pool.gpu_resource} is asked for by its limit"
        )
    limit = parse_quantity(pool.resources.limits.get(pool.gpu_resource, 0))
    where = f"{field}.resources.limits[{pool.gpu_resource}]"
    if limit != limit.to_integral_value():
        raise InvalidSpecError(where, "must be a whole number")
    if engine == "vllm" and pool.gpus(engine) not in (0, pool.tensor_parallel):
        raise InvalidSpecError(
            where, f"must be tensorParallel, {pool.tensor_parallel}, or 0 for an engine on CPUs"
        )


def _check_resources(resources: ResourceRequirements, field: str) -> None:
    requests = _amounts(resources.requests, f"{field}.requests")
    limits = _amounts(resources.limits, f"{field}.limits")
    for name, request in requests.items():
        if name in limits and request > limits[name]:
            raise InvalidSpecError(f"{field}.requests[{name}]", "is above the limit")


def _amounts(quantities: Mapping[str, int | str], field: str) -> dict[str, Decimal]:
    amounts = {}
    for name, quantity in quantities.items():
        try:
            amounts[name] = parse_quantity(quantity)
        except ValueError as error:
            raise InvalidSpecError(f"{field}[{name}]", str(error)) from error
        if amounts[name] < 0:
            raise InvalidSpecError(f"{field}[{name}]", f"{quantity} is below 0")
    return amounts


def _check_classes(slo: Slo) -> None:
    names = [told.name for told in slo.classes]
    for index, name in enumerate(names):
        if name == "default" or name in names[:index]:
            why = "is told by slo itself" if name == "default" else "is told twice"
            raise InvalidSpecError(f"spec.slo.classes[{index}].name", f"{name!r} {why}")


def _check_ray(ray: Ray) -> None:
    if ray.auth_secret is not None and ray.address is None:
        raise InvalidSpecError(
            "spec.ray.authSecret", "opens a Ray cluster that exists: it needs ray.address"
        )
    if ray.gcs_fault_tolerance is not None and ray.address is not None:
        raise InvalidSpecError(
            "spec.ray.gcsFaultTolerance",
            "is for a cluster that KubeRay makes: it goes without ray.address",
        )
    _check_resources(ray.head_resources, "spec.ray.headResources")
    check_ray_template(ray.head_pod_template, "spec.ray.headPodTemplate")


def _check_gateway(gateway: Gateway) -> None:
    low, high = gateway.min_replicas, gateway.max_replicas
    if (low is None) != (high is None):
        raise InvalidSpecError(
            "spec.gateway", "an autoscaler needs both minReplicas and maxReplicas"
        )
    if low is not None and high is not None and low > high:
        raise InvalidSpecError("spec.gateway.minReplicas", f"{low} is above maxReplicas, {high}")
    _check_resources(gateway.resources, "spec.gateway.resources")
    check_template(gateway.pod_template, "spec.gateway.podTemplate")
