"""The routers of a cluster in memory, for tests of the plan: a Deployment that rolls out."""

import itertools
from collections.abc import Collection
from typing import Any

from twofold_operator.planning import names
from twofold_operator.planning.conditions import timestamp
from twofold_operator.planning.following import secret_of

END_SECONDS = 3.0
"""From the end of a router's readiness to the end of its process."""

Key = tuple[str, str]
Objects = dict[Key, dict[str, Any]]


def is_router(child: dict[str, Any]) -> bool:
    labels = child["metadata"].get("labels") or {}
    return labels.get(names.COMPONENT_LABEL) == "router"


def live_routers(
    objects: Objects, deployment: dict[str, Any], served: Collection[str], now: float
) -> None:
    """Go one step further: *served* names the Secrets of Redis that have whole pairs of workers.

    Routers get ready once they have seen one, and stay so. One of another template ends when as
    many as are wanted are ready.
    """
    pods = {key: pod for key, pod in objects.items() if key[0] == "Pod" and is_router(pod)}
    for key, pod in pods.items():
        ends_at = pod["metadata"].get("ends_at")
        if ends_at is not None and ends_at <= now:
            del objects[key]
        elif secret_of(pod["spec"]) in served:
            pod["is_ready"] = True
    living = {key: pod for key, pod in pods.items() if "ends_at" not in pod["metadata"]}
    template = deployment["spec"]["template"]["spec"]
    wanted = deployment["spec"].get("replicas", 1)
    current = [pod for pod in living.values() if pod["spec"] == template]
    made = wanted - len(current)
    for _ in range(made):
        pod = _pod(deployment, _unused(objects, deployment["metadata"]["name"]))
        objects["Pod", pod["metadata"]["name"]] = pod
    is_done = sum(pod["is_ready"] for pod in current) >= wanted
    for pod in living.values():
        if is_done and pod not in current:
            pod["metadata"]["ends_at"] = now + END_SECONDS
            pod["metadata"]["deletionTimestamp"] = timestamp(now + END_SECONDS)
    staying = [pod for pod in living.values() if "ends_at" not in pod["metadata"]]
    deployment["status"] = {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": len(staying) + max(0, made),
        "updatedReplicas": len(current) + max(0, made),
        "availableReplicas": sum(pod["is_ready"] for pod in staying),
    }


def _unused(objects: Objects, prefix: str) -> str:
    names_ = (f"{prefix}-{number}" for number in itertools.count())
    return next(name for name in names_ if ("Pod", name) not in objects)


def _pod(deployment: dict[str, Any], name: str) -> dict[str, Any]:
    template = deployment["spec"]["template"]
    metadata = {
        "name": name,
        "namespace": deployment["metadata"]["namespace"],
        "labels": dict(template["metadata"]["labels"]),
    }
    metadata["uid"] = metadata["name"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": template["spec"],
        "is_ready": False,
    }
