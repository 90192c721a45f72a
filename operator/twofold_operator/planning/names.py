"""How the children of a service are called and labelled."""

import hashlib

MAX_NAME = 63
FIELD_MANAGER = "twofold-operator"
FINALIZER = "serving.twofold.dev/operator"

INSTANCE_LABEL = "app.kubernetes.io/instance"
COMPONENT_LABEL = "app.kubernetes.io/component"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
REVISION_LABEL = "serving.twofold.dev/revision"
ZONE_LABEL = "topology.kubernetes.io/zone"
APPLIED_ANNOTATION = "serving.twofold.dev/applied"
"""A hash of what was applied last, so that a field that is not wanted any more is seen."""
REPLICAS_ANNOTATION = "serving.twofold.dev/replicas-from"
"""On a WorkerPool: the replicas of the service's spec that were applied last, if it had any."""

RECORD_ANNOTATION = "serving.twofold.dev/record"
"""On what a revision runs on: what is remembered of it, should the ConfigMap be lost."""

POOLS_PORT = 50051
WORKER_PORT = 8001
"""Of the worker's HTTP API, with its metrics, in a pod of its own; its other ports are any."""
ROUTER_PORT = 8000
SERVICE_PORT = 80
REDIS_KEY = "url"


def cut(name: str, limit: int = MAX_NAME) -> str:
    """Return *name*, or as much of it as fits with a hash of the whole."""
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: limit - 9].rstrip('-.')}-{digest}"


def labels(service: str, component: str, revision: str | None = None) -> dict[str, str]:
    """Return the labels of a child; without the version they serve as its selector."""
    found = {
        "app.kubernetes.io/name": "twofold",
        INSTANCE_LABEL: cut(service),
        COMPONENT_LABEL: component,
        "app.kubernetes.io/part-of": "twofold",
        MANAGED_BY_LABEL: FIELD_MANAGER,
    }
    return found if revision is None else {**found, REVISION_LABEL: revision}


def service_id(namespace: str, name: str) -> str:
    """Return the name of a service in Redis."""
    return f"{namespace}.{name}"


def cluster_name(service: str, revision: str) -> str:
    """Return the name of a revision's RayCluster."""
    return cut(f"{service}-{revision}")


def pools_name(service: str, revision: str) -> str:
    """Return the name of what reaches, and on an existing Ray runs, a revision's pool manager."""
    return cut(f"{service}-{revision}-pools")


def router_name(service: str) -> str:
    return cut(f"{service}-router")


def pool_name(service: str, role: str) -> str:
    return cut(f"{service}-{role}")


def redis_name(service: str, redis_id: str) -> str:
    """Return the name of the Secret with the URL that *redis_id* stands for."""
    return cut(f"{service}-redis-{redis_id}")


def memory_name(service: str) -> str:
    return cut(f"{service}-revisions")
