"""Workers whose pool manager does not answer: nobody sees them, and they may serve all the same."""

import math

from twofold_operator.planning.conditions import seconds
from twofold_operator.planning.observed import Manifest
from twofold_operator.resources import LLMService

_POD_CONDITIONS = ("Available", "HeadPodReady")
"""What a Deployment and a RayCluster say of the pod that the manager is in."""


def given_up_at(service: LLMService, home: Manifest | None) -> float:
    """Return when workers in *home* have ended if their manager stays silent, in seconds since
    1970; never while its pod is well: then it is we who do not reach it.

    Without a Redis of its own, Ray ends with its head, and the workers with it.
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
    return min(lost) + (ray.orphan_seconds if outlive else 0)
