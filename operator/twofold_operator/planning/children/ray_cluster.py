"""The RayCluster of one revision: a head with the pool manager beside it, a group for each role."""

from collections.abc import Mapping, Sequence
from typing import Any

from twofold_cluster.identity import Role
from twofold_operator.planning import names
from twofold_operator.planning.children import pods
from twofold_operator.planning.children.ownership import child
from twofold_operator.planning.children.pool_manager import (
    HEAD_COMPONENT,
    drain_limit_seconds,
    grace_seconds,
    manager_container,
)
from twofold_operator.planning.engines import (
    MODEL_PATH,
    cpus_of,
    pool_of,
    ray_resource,
    source_of,
)
from twofold_operator.planning.redis import Redis
from twofold_operator.planning.rollout import ROLES
from twofold_operator.planning.settings import PlanSettings
from twofold_operator.resources import GcsFaultTolerance, LLMService, ResourceRequirements

API_VERSION = "ray.io/v1"
KIND = "RayCluster"

HEAD_CONTAINER = "ray-head"
GCS_PORT = 6379
RAYLET_PORT = 6380
MAX_WORKERS = 10_000

_HEAD_REQUESTS = ResourceRequirements(requests={"cpu": "500m", "memory": "1Gi"})
_SIM_REQUESTS = ResourceRequirements(requests={"cpu": "100m", "memory": "512Mi"})
_VLLM_REQUESTS = ResourceRequirements(requests={"cpu": "1", "memory": "4Gi"})


def ray_cluster(
    service: LLMService,
    revision: str,
    image: str,
    redis: Redis,
    settings: PlanSettings,
    replicas: Mapping[Role, int],
    doomed: Mapping[Role, Sequence[str]],
) -> dict[str, Any]:
    """Return the RayCluster with *replicas* pods for each role; pods that are *doomed* go."""
    groups = [_group(service, revision, image, settings, role) for role in ROLES]
    for group, role in zip(groups, ROLES, strict=True):
        group["replicas"] = replicas[role]
        if doomed.get(role):
            group["scaleStrategy"] = {"workersToDelete": list(doomed[role])}
    return child(
        service,
        API_VERSION,
        KIND,
        names.cluster_name(service.metadata.name, revision),
        "workers",
        revision=revision,
        spec={
            "rayVersion": settings.ray_version,
            **_fault_tolerance(service.spec.ray.gcs_fault_tolerance),
            "headGroupSpec": _head(service, revision, image, redis, settings),
            "workerGroupSpecs": groups,
        },
    )


def _fault_tolerance(wanted: GcsFaultTolerance | None) -> dict[str, Any]:
    """Return what KubeRay is told of Ray's Redis, which is none of ours (decision 016)."""
    if wanted is None:
        return {}
    options: dict[str, Any] = {"redisAddress": wanted.redis_address}
    if wanted.redis_username is not None:
        options["redisUsername"] = {"value": wanted.redis_username}
    secret = wanted.redis_password_secret
    if secret is not None:
        reference = {"name": secret.name, "key": secret.key}
        options["redisPassword"] = {"valueFrom": {"secretKeyRef": reference}}
    return {"gcsFaultToleranceOptions": options}


def _head(
    service: LLMService, revision: str, image: str, redis: Redis, settings: PlanSettings
) -> dict[str, Any]:
    prefix = names.cluster_name(service.metadata.name, revision)
    ray = _ray_container(service, image, HEAD_CONTAINER, GCS_PORT)
    # The manager beside it is told at once, and drains its workers through this Ray.
    ray["lifecycle"] = {"preStop": {"exec": {"command": _draining(settings)}}}
    ray["resources"] = pods.resources_of(service.spec.ray.head_resources, _HEAD_REQUESTS)
    arguments = [f"--ray=127.0.0.1:{GCS_PORT}"]
    # The workers end with this pod, unless their Ray's state is somewhere else.
    outlived = service.spec.ray.gcs_fault_tolerance is not None
    manager = manager_container(
        service, image, redis, settings, arguments, prefix, leaves_workers=outlived
    )
    # A driver finds its node among the processes (ray/_private/services.py,
    # ``get_node_to_connect_for_driver``), and talks to it through files in /tmp and shared memory.
    manager["volumeMounts"].append(_SHARED_MEMORY_MOUNT)
    labels = names.labels(service.metadata.name, HEAD_COMPONENT, revision)
    ours = _pod(service, settings, labels, [ray, manager])
    ours["spec"]["shareProcessNamespace"] = True
    return {
        # Nothing but the manager runs here.
        "rayStartParams": {"num-cpus": "0", "num-gpus": "0"},
        "template": pods.template(ours, service.spec.ray.head_pod_template, labels),
    }


def _group(
    service: LLMService, revision: str, image: str, settings: PlanSettings, role: Role
) -> dict[str, Any]:
    pool = pool_of(service.spec, role)
    labels = names.labels(service.metadata.name, role, revision)
    ours = _pod(service, settings, labels, [_worker(service, image, settings, role)])
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
    ours["spec"]["topologySpreadConstraints"] = [spread]
    _mount_model(service, ours["spec"])
    return {
        "groupName": str(role),
        "minReplicas": 0,
        "maxReplicas": MAX_WORKERS,
        "rayStartParams": {
            "num-cpus": str(int(cpus_of(pool))),
            "num-gpus": str(pool.gpus(service.spec.engine)),
            "node-manager-port": str(RAYLET_PORT),
            # One worker a pod, and each where its role belongs. Quoted for the shell that KubeRay
            # hands it to, in quotes that KubeRay takes off where it reads it itself.
            "resources": f"'{{\"{ray_resource(role)}\": 1}}'",
        },
        "template": pods.template(ours, pool.pod_template, labels),
    }


def _draining(settings: PlanSettings) -> list[str]:
    """Return what a pod runs before Ray is told to end, and with it workers that still serve."""
    limit = f"--limit-seconds={drain_limit_seconds(settings)}"
    return ["python", "-m", "twofold_engine.draining", limit]


def _worker(service: LLMService, image: str, settings: PlanSettings, role: Role) -> dict[str, Any]:
    spec = service.spec
    pool = pool_of(spec, role)
    container = _ray_container(service, image, "worker", RAYLET_PORT)
    # Kubernetes' node, where transfers find shared memory; Ray's node is the pod. Pods have the
    # label of its zone from Kubernetes 1.35 on, and name none before.
    places = {
        "NODE": "spec.nodeName",
        "POD": "metadata.name",
        "ZONE": f"metadata.labels['{names.ZONE_LABEL}']",
    }
    for place, path in places.items():
        field = {"fieldRef": {"fieldPath": path}}
        container["env"].append({"name": f"TWOFOLD_{place}", "valueFrom": field})
    # The only one that a NetworkPolicy opens to who scrapes metrics.
    container["env"].append({"name": "TWOFOLD_WORKER_PORT", "value": str(names.WORKER_PORT)})
    # What the engine says comes out of the container, and not into a file of Ray's.
    container["env"].append({"name": "RAY_LOG_TO_STDERR", "value": "1"})
    container["lifecycle"] = {"preStop": {"exec": {"command": _draining(settings)}}}
    defaults = _SIM_REQUESTS if spec.engine == "sim" else _VLLM_REQUESTS
    resources = pods.resources_of(pool.resources, defaults)
    amounts = {}
    if pool.gpus(spec.engine):
        amounts[pool.gpu_resource] = pool.gpus(spec.engine)
    if spec.transfer.rdma:
        amounts[pool.rdma_resource] = 1
        # RDMA registers the memory that it reads.
        security = pods.container_security(pins_memory=pods.is_root(pool.pod_template, "worker"))
        container["securityContext"] = security
    if amounts:
        told = {name: str(amount) for name, amount in amounts.items()}
        resources["limits"] = {**told, **resources.get("limits", {})}
    container["resources"] = resources
    if spec.model.secret_ref is not None:
        container["envFrom"] = [{"secretRef": {"name": spec.model.secret_ref.name}}]
    return container


def _ray_container(service: LLMService, image: str, name: str, port: int) -> dict[str, Any]:
    """Return a container that KubeRay gives its command.

    The probes are ours: KubeRay's own need tools that a small image does not have.
    """
    probe = {"tcpSocket": {"port": port}, "timeoutSeconds": 5}
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": service.spec.images.pull_policy,
        "env": [*pods.scratch_environment(), {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}],
        "readinessProbe": {**probe, "periodSeconds": 5, "failureThreshold": 10},
        "livenessProbe": {
            **probe,
            "initialDelaySeconds": 60,
            "periodSeconds": 10,
            "failureThreshold": 12,
        },
        "securityContext": pods.container_security(),
        "volumeMounts": [*pods.scratch_mounts(), _SHARED_MEMORY_MOUNT],
    }


def _pod(
    service: LLMService,
    settings: PlanSettings,
    labels: dict[str, str],
    containers: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "metadata": {"labels": labels},
        "spec": {
            **pods.pod_spec(service.spec.images, settings),
            "terminationGracePeriodSeconds": grace_seconds(settings),
            "containers": containers,
            "volumes": [*pods.scratch_volumes(), _SHARED_MEMORY],
        },
    }


def _mount_model(service: LLMService, pod: dict[str, Any]) -> None:
    source = source_of(service.spec.model.source)
    if source.scheme == "pvc":
        volume = {"persistentVolumeClaim": {"claimName": source.location, "readOnly": True}}
    elif source.scheme == "oci":
        volume = {"image": {"reference": source.location}}
    else:
        return
    pod["volumes"].append({"name": "model", **volume})
    mount = {"name": "model", "mountPath": MODEL_PATH, "readOnly": True}
    pod["containers"][0]["volumeMounts"].append(mount)


_SHARED_MEMORY = {"name": "dshm", "emptyDir": {"medium": "Memory"}}
_SHARED_MEMORY_MOUNT = {"name": "dshm", "mountPath": "/dev/shm"}  # noqa: S108
