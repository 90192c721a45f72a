"""What Kubernetes and KubeRay say of a Deployment or a RayCluster that has not what it needs."""

from twofold_operator.planning.observed import Manifest

_BAD = {
    "ReplicaFailure": "True",
    "Progressing": "False",
    "HeadPodReady": "False",
    "RayClusterProvisioned": "False",
}
"""Conditions of both kinds with the status that is worth telling, the most telling first."""


def reported(child: Manifest | None) -> list[str]:
    """Return the conditions that say why pods are missing, with their reasons and messages."""
    conditions = ((child or {}).get("status") or {}).get("conditions") or ()
    seen = {each["type"]: each for each in conditions}
    return [
        f"{kind} is {status} ({seen[kind].get('reason', '')}): {seen[kind].get('message', '')}"
        for kind, status in _BAD.items()
        if seen.get(kind, {}).get("status") == status
    ]
