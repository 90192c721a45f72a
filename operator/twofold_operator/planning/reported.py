"""What Kubernetes and KubeRay say of a Deployment, RayCluster or pod that lacks what it needs."""

from collections.abc import Iterable, Mapping

from twofold_operator.planning.observed import Manifest

_BAD = {
    "ReplicaFailure": "True",
    "Progressing": "False",
    "HeadPodReady": "False",
    "RayClusterProvisioned": "False",
}
"""Conditions of both kinds with the status that is worth telling, the most telling first."""


_REFUSED = {"ReplicaFailure": "True"}
_UNPLACED = {"PodScheduled": "False"}


def reported(child: Manifest | None) -> list[str]:
    """Return the conditions that say why pods are missing, with their reasons and messages."""
    return _told(child, _BAD)


def reported_refusal(child: Manifest | None) -> list[str]:
    """Return why the API server does not take pods, as for a quota or an admission policy."""
    return _told(child, _REFUSED)


def reported_unplaced(pods: Iterable[Manifest]) -> list[str]:
    """Return why the scheduler has no place for *pods*, each reason once."""
    found: dict[str, str] = {}
    for pod in pods:
        for text in _told(pod, _UNPLACED):
            found.setdefault(text, f"pod {pod['metadata']['name']}: {text}")
    return list(found.values())


def _told(child: Manifest | None, statuses: Mapping[str, str]) -> list[str]:
    conditions = ((child or {}).get("status") or {}).get("conditions") or ()
    seen = {each["type"]: each for each in conditions}
    return [
        f"{kind} is {status} ({seen[kind].get('reason', '')}): {seen[kind].get('message', '')}"
        for kind, status in statuses.items()
        if seen.get(kind, {}).get("status") == status
    ]
