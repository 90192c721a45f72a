"""Parts of pods that run our images: without privileges, on a read-only root file system."""

from collections.abc import Mapping
from typing import Any

from twofold_operator.planning import names
from twofold_operator.planning.merging import merged
from twofold_operator.planning.redis import Redis
from twofold_operator.planning.settings import PlanSettings
from twofold_operator.resources import (
    Images,
    LLMService,
    ResourceRequirements,
    parse_quantity,
    to_wire,
)

USER_ID = 1000

REDIS_URL = "TWOFOLD_REDIS_URL"

_HOME = "/scratch"


def pod_security() -> dict[str, Any]:
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def is_root(template: Mapping[str, Any], container: str) -> bool:
    """Tell whether the user's *template* has *container* run as root."""
    spec = template.get("spec") or {}
    named = [one for one in spec.get("containers") or () if one.get("name") == container]
    # What is said last counts most: Kubernetes takes the container's before the pod's.
    told = [(one.get("securityContext") or {}).get("runAsUser") for one in (spec, *named)]
    users = [user for user in told if user is not None]
    return bool(users) and users[-1] == 0


def container_security(*, pins_memory: bool = False) -> dict[str, Any]:
    """Return a container's rights: none, or for root the one to keep memory where it is.

    Other users have no capability whatever is added, and a namespace that enforces the Pod
    Security Standard ``baseline`` or ``restricted`` refuses a pod that asks for this one.
    """
    capabilities: dict[str, Any] = {"drop": ["ALL"]}
    if pins_memory:
        capabilities["add"] = ["IPC_LOCK"]
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": capabilities,
    }


def scratch_volumes() -> list[dict[str, Any]]:
    return [{"name": "tmp", "emptyDir": {}}, {"name": "scratch", "emptyDir": {}}]


def scratch_mounts() -> list[dict[str, Any]]:
    return [{"name": "tmp", "mountPath": "/tmp"}, {"name": "scratch", "mountPath": _HOME}]  # noqa: S108


def scratch_environment() -> list[dict[str, Any]]:
    """Return where libraries may write. The user has no entry in the image, so it is named."""
    return [
        {"name": "HOME", "value": _HOME},
        {"name": "USER", "value": "twofold"},
        {"name": "HF_HOME", "value": f"{_HOME}/huggingface"},
        {"name": "XDG_CACHE_HOME", "value": f"{_HOME}/cache"},
    ]


def redis_environment(service: LLMService, redis: Redis) -> list[dict[str, Any]]:
    """Return the membership's URL from the Secret: a password never stands in an argument."""
    name = names.redis_name(service.metadata.name, redis.id)
    secret = {"name": name, "key": names.REDIS_KEY}
    return [{"name": REDIS_URL, "valueFrom": {"secretKeyRef": secret}}]


def resources_of(told: ResourceRequirements, defaults: ResourceRequirements) -> dict[str, Any]:
    """Return what was told; of each resource that it does not request, the default request.

    A default request is no more than the limit that was told: the API server refuses that.
    """
    requests = {
        name: _at_most(request, told.limits.get(name, request))
        for name, request in defaults.requests.items()
    }
    return {**to_wire(defaults), **to_wire(told), "requests": requests | dict(told.requests)}


def _at_most(quantity: int | str, limit: int | str) -> int | str:
    return limit if parse_quantity(limit) < parse_quantity(quantity) else quantity


def pod_spec(images: Images, settings: PlanSettings) -> dict[str, Any]:
    """Return what all our pods have in common.

    Kubernetes' variables for each Service of the namespace are left out: engines read their own
    settings from such names, as vLLM does from VLLM_PORT, which a Service ``vllm`` would set.
    """
    secrets = [*settings.image_pull_secrets, *(secret.name for secret in images.pull_secrets)]
    spec: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(),
    }
    if secrets:
        spec["imagePullSecrets"] = [{"name": name} for name in secrets]
    return spec


def template(ours: dict[str, Any], theirs: dict[str, Any], selected: dict[str, str]) -> Any:
    """Return a pod template merged with the user's, who cannot take away what selects it."""
    result = merged(ours, {name: theirs[name] for name in ("metadata", "spec") if name in theirs})
    metadata = result.setdefault("metadata", {})
    metadata["labels"] = {**(metadata.get("labels") or {}), **selected}
    return result
