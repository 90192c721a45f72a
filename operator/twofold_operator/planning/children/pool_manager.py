"""The pool manager: beside the head of a RayCluster, or in a pod that joins an existing Ray."""

from collections.abc import Mapping
from typing import Any

from twofold_operator.planning import names
from twofold_operator.planning.addresses import POOLS_COMPONENT
from twofold_operator.planning.children import pods
from twofold_operator.planning.children.ownership import child, selector
from twofold_operator.planning.redis import Redis
from twofold_operator.planning.settings import PlanSettings
from twofold_operator.resources import ORPHAN_SECONDS, LLMService, ResourceRequirements

HEAD_COMPONENT = "head"

MANAGERS_START_SECONDS = 3600
"""What a pool manager gives a worker to get ready, if it is not told."""

_REQUESTS = ResourceRequirements(requests={"cpu": "100m", "memory": "256Mi"})


def manager_container(
    service: LLMService,
    image: str,
    redis: Redis,
    settings: PlanSettings,
    arguments: list[str],
    prefix: str,
    *,
    leaves_workers: bool,
) -> dict[str, Any]:
    """Return the container of a manager of workers with this *prefix*.

    It *leaves* them when its pod ends, if any are wanted, where their Ray goes on without that
    pod: the next manager takes them over. Else it has them finish what they have, and ends them.
    """
    return {
        "name": "pools",
        "image": image,
        "imagePullPolicy": service.spec.images.pull_policy,
        "command": ["python", "-m", "twofold_engine.pools"],
        "args": [
            f"--service={service.service_id}",
            f"--worker-prefix={prefix}",
            f"--listen=0.0.0.0:{names.POOLS_PORT}",  # gRPC takes it for all addresses of IPv6 too
            f"--engine={service.spec.engine}",
            f"--drain-seconds={settings.drain_seconds:g}",
            *(["--leave-workers"] if leaves_workers else []),
            *_orphan_limit(service),
            *_start_limit(service),
            *_directory_limit(service),
            *arguments,
        ],
        "env": [*pods.scratch_environment(), *pods.redis_environment(service, redis)],
        "ports": [{"name": "pools", "containerPort": names.POOLS_PORT, "protocol": "TCP"}],
        "readinessProbe": {"tcpSocket": {"port": names.POOLS_PORT}, "periodSeconds": 5},
        "resources": pods.resources_of(ResourceRequirements(), _REQUESTS),
        "securityContext": pods.container_security(),
        "volumeMounts": pods.scratch_mounts(),
    }


def _orphan_limit(service: LLMService) -> list[str]:
    """Return nothing at the default, so that the pods of services that do not say it stay."""
    limit = service.spec.ray.orphan_seconds
    return [] if limit == ORPHAN_SECONDS else [f"--orphan-seconds={limit}"]


def _start_limit(service: LLMService) -> list[str]:
    """Give workers at least the time that their revision has."""
    seconds = service.spec.rollout.ready_deadline_seconds
    # Nothing is said otherwise, so that services on an existing Ray keep their revisions.
    return [f"--start-seconds={seconds}"] if seconds > MANAGERS_START_SECONDS else []


def _directory_limit(service: LLMService) -> list[str]:
    holdings = service.spec.observability.directory_holdings
    return [] if holdings is None else [f"--directory-holdings={holdings}"]


def pools_service(service: LLMService, revision: str) -> dict[str, Any]:
    """Return the Service before the manager of one revision."""
    name = service.metadata.name
    component = HEAD_COMPONENT if service.spec.ray.address is None else POOLS_COMPONENT
    return child(
        service,
        "v1",
        "Service",
        names.pools_name(name, revision),
        POOLS_COMPONENT,
        revision=revision,
        spec={
            "selector": selector(service, component) | {names.REVISION_LABEL: revision},
            "ports": [
                {
                    "name": "grpc",
                    "port": names.POOLS_PORT,
                    "protocol": "TCP",
                    "targetPort": "pools",
                }
            ],
            # A manager that is not ready yet has something to tell.
            "publishNotReadyAddresses": True,
        },
    )


def external_manager(
    service: LLMService, revision: str, template: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the manager of a revision on an existing Ray, which its pod joins without resources.

    Each revision has its own: what a worker and its manager tell each other is of one version.
    """
    name = service.metadata.name
    return child(
        service,
        "apps/v1",
        "Deployment",
        names.pools_name(name, revision),
        POOLS_COMPONENT,
        revision=revision,
        spec={
            "replicas": 1,
            # Two at a time would take the workers from each other.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": _selected(service, revision)},
            "template": dict(template),
        },
    )


def manager_template(
    service: LLMService, revision: str, image: str, redis: Redis, settings: PlanSettings
) -> dict[str, Any]:
    """Return the pod template of :func:`external_manager`.

    It makes the revision, and is remembered with it: the manager of workers that run is not
    replaced by one of another making.
    """
    name = service.metadata.name
    address = service.spec.ray.address
    assert address is not None
    container = manager_container(
        service,
        image,
        redis,
        settings,
        [f"--ray={address}", "--join"],
        names.cluster_name(name, revision),
        leaves_workers=True,
    )
    container["env"] += _ray_environment(service)
    container["volumeMounts"].append({"name": "dshm", "mountPath": "/dev/shm"})  # noqa: S108
    dshm = {"name": "dshm", "emptyDir": {"medium": "Memory"}}
    labels = names.labels(name, POOLS_COMPONENT, revision)
    ours = {
        "metadata": {"labels": labels},
        "spec": {
            **pods.pod_spec(service.spec.images, settings),
            "terminationGracePeriodSeconds": grace_seconds(settings),
            "containers": [container],
            "volumes": [*pods.scratch_volumes(), dshm],
        },
    }
    made: dict[str, Any] = pods.template(ours, service.spec.ray.head_pod_template, labels)
    return made


def _selected(service: LLMService, revision: str) -> dict[str, str]:
    return selector(service, POOLS_COMPONENT) | {names.REVISION_LABEL: revision}


def _ray_environment(service: LLMService) -> list[dict[str, Any]]:
    """Return the token of the cluster that is joined, in the variables that Ray reads."""
    secret = service.spec.ray.auth_secret
    if secret is None:
        return []
    reference = {"name": secret.name, "key": secret.key}
    return [
        {"name": "RAY_AUTH_MODE", "value": "token"},
        {"name": "RAY_AUTH_TOKEN", "valueFrom": {"secretKeyRef": reference}},
    ]


def grace_seconds(settings: PlanSettings) -> int:
    """Return what a pod may take to end: it drains, then Ray takes half a minute."""
    return drain_limit_seconds(settings) + 30


def drain_limit_seconds(settings: PlanSettings) -> int:
    """Return what a worker may take to drain: the blocks' lease, then what is being served."""
    return int(settings.lease_seconds + settings.drain_seconds)
