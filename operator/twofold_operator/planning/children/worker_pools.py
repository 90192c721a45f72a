"""The two WorkerPools of a service: what people and autoscalers scale."""

from typing import Any

from twofold_cluster.identity import Role
from twofold_operator.planning import names
from twofold_operator.planning.children.ownership import child
from twofold_operator.planning.engines import pool_of
from twofold_operator.planning.observed import Manifest
from twofold_operator.resources import API_VERSION, WORKER_POOL, LLMService


def worker_pool(service: LLMService, role: Role, observed: Manifest | None) -> dict[str, Any]:
    """Return the WorkerPool of *role*.

    Its replicas are whatever somebody scaled it to, until the service's own spec says another
    number than it said last.
    """
    told = pool_of(service.spec, role).replicas
    manifest = child(
        service,
        API_VERSION,
        WORKER_POOL.kind,
        names.pool_name(service.metadata.name, role),
        str(role),
        annotations={} if told is None else {names.REPLICAS_ANNOTATION: str(told)},
        spec={
            "serviceName": service.metadata.name,
            "role": str(role),
            "replicas": replicas_of(service, role, observed),
        },
    )
    if observed is not None and "resourceVersion" in observed["metadata"]:
        # Whoever scales it meanwhile wins, and is seen.
        manifest["metadata"]["resourceVersion"] = observed["metadata"]["resourceVersion"]
    return manifest


def replicas_of(service: LLMService, role: Role, observed: Manifest | None) -> int:
    """Return the replicas that the WorkerPool shall have, which may be beyond the bounds: whoever
    scales it so is not answered by scaling it back."""
    pool = pool_of(service.spec, role)
    told = pool.replicas
    if observed is None:
        return _last(service, role) if told is None else told
    annotations = observed["metadata"].get("annotations") or {}
    if told is not None and annotations.get(names.REPLICAS_ANNOTATION) != str(told):
        return told
    return int(observed["spec"].get("replicas", pool.start_replicas))


def desired_of(service: LLMService, role: Role, observed: Manifest | None) -> int:
    """Return how many workers are wanted, within the service's bounds."""
    if role is Role.PREFILL and not service.spec.disaggregation.enabled:
        return 0
    return pool_of(service.spec, role).clamp(replicas_of(service, role, observed))


def _last(service: LLMService, role: Role) -> int:
    """Return what a pool that was deleted by hand is made again with: what was wanted last."""
    status = service.status.prefill if role is Role.PREFILL else service.status.decode
    desired = 0 if status is None else status.desired
    return desired or pool_of(service.spec, role).start_replicas
