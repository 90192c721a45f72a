"""The pods of a revision's Ray, of which some may be ending.

KubeRay counts a pod that ends among those that are there, until it has gone or is named in
``workersToDelete``; a name that ends, or has gone, is no error to it (``reconcilePods``, 1.0 to
1.7). From 1.4 on it adds and removes no pod of a group before those that it deleted have gone.
"""

from collections.abc import Iterable

from twofold_operator.planning import names
from twofold_operator.planning.children.pool_manager import HEAD_COMPONENT
from twofold_operator.planning.conditions import seconds
from twofold_operator.planning.course import Leg
from twofold_operator.planning.observed import Manifest, Observed
from twofold_operator.planning.rollout import ROLES

STUCK_SECONDS = 60
"""A pod that is there so long after its grace does not end by itself."""

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"


def pods_of(leg: Leg, observed: Observed, component: str) -> list[Manifest]:
    """Return the pods of a role, or of the head."""
    return observed.pods(names.labels(leg.service.metadata.name, component, leg.revision))


def is_ending(pod: Manifest) -> bool:
    return bool(pod["metadata"].get("deletionTimestamp"))


def stuck_pods(leg: Leg, observed: Observed, now: float) -> list[str]:
    """Say which pods do not end, and what ends them; the head's first."""
    return [
        _stuck(component, pod)
        for component, pod in _ending_pods(leg, observed)
        if now >= _stuck_at(pod)
    ]


def stuck_times(legs: Iterable[Leg], observed: Observed) -> list[float]:
    """Return when pods that end are stuck, in seconds since 1970."""
    return [_stuck_at(pod) for leg in legs for _, pod in _ending_pods(leg, observed)]


def _ending_pods(leg: Leg, observed: Observed) -> list[tuple[str, Manifest]]:
    return [
        (component, pod)
        for component in (HEAD_COMPONENT, *ROLES)
        for pod in pods_of(leg, observed, component)
        if is_ending(pod)
    ]


def _stuck_at(pod: Manifest) -> float:
    # The API server writes there when the pod's grace is over.
    return seconds(pod["metadata"]["deletionTimestamp"]) + STUCK_SECONDS


def _stuck(component: str, pod: Manifest) -> str:
    metadata = pod["metadata"]
    name, node = metadata["name"], (pod.get("spec") or {}).get("nodeName")
    what = f"pod {name} on node {node}" if node else f"pod {name}"
    waits = (
        "KubeRay makes no other head"
        if component == HEAD_COMPONENT
        else f"KubeRay (from 1.4 on) adds and removes no {component} worker"
    )
    if finalizers := metadata.get("finalizers"):
        remedy = f"whoever set its finalizers must take them off: {', '.join(finalizers)}"
    else:
        remedy = (
            f"if the node is lost, kubectl taint node {node or 'NODE'} {OUT_OF_SERVICE}, or "
            f"kubectl delete pod {name} --force"
        )
    since = metadata["deletionTimestamp"]
    return f"{what} does not end since {since}, and {waits} before it has gone; {remedy}"
