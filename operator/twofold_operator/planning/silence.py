"""Workers whose pool manager does not answer: nobody sees them, and they may serve all the same."""

import math
from collections.abc import Iterable

from twofold_operator.planning.children.ray_cluster import HEAD_CONTAINER
from twofold_operator.planning.conditions import seconds
from twofold_operator.planning.observed import Manifest
from twofold_operator.resources import LLMService

_POD_CONDITIONS = ("Available", "HeadPodReady")
"""What a Deployment and a RayCluster say of the pod that the manager is in."""


def given_up_at(service: LLMService, home: Manifest | None, heads: Iterable[Manifest]) -> float:
    """Return when workers in *home* have ended if their manager stays silent, in seconds since
    1970; never while its pod is well: then it is we who do not reach it.

    Without a Redis of its own, Ray ends with its head, and the workers with it. The head goes on
    where of the containers of its pod, one of *heads*, the manager's alone has ended.
    """
    if home is None or home["metadata"].get("deletionTimestamp"):
        return -math.inf
    conditions = (home.get("status") or {}).get("conditions") or ()
    lost = [
        seconds(each["lastTransitionTime"])
        for each in conditions
        if each["type"] in _POD_CONDITIONS and each["status"] == "False"
    ]
    if not lost:
        return math.inf
    ray = service.spec.ray
    outlive = ray.address is not None or ray.gcs_fault_tolerance is not None
    return min(lost) + (ray.orphan_seconds if outlive or any(map(_ray_goes_on, heads)) else 0)


def _ray_goes_on(head: Manifest) -> bool:
    """Tell whether Ray runs in a head's pod since before the pod was not ready any more.

    A pod whose containers are all ready, and that is not, is on a node that is lost.
    """
    status = head.get("status") or {}
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    parts = [conditions.get(kind, {}) for kind in ("Ready", "ContainersReady")]
    if head["metadata"].get("deletionTimestamp") or any(p.get("status") != "False" for p in parts):
        return False
    unready_since = seconds(parts[0]["lastTransitionTime"])
    return any(
        seconds(container["state"]["running"]["startedAt"]) < unready_since
        for container in status.get("containerStatuses") or ()
        if container["name"] == HEAD_CONTAINER and "running" in container.get("state", {})
    )
