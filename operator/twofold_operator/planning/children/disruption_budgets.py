"""What keeps those who drain nodes from taking many workers at once."""

from typing import Any

from twofold_cluster.identity import Role
from twofold_operator.planning import names
from twofold_operator.planning.children.ownership import child, selector
from twofold_operator.resources import LLMService


def pool_budget(service: LLMService, role: Role, min_available: int) -> dict[str, Any]:
    """Return the budget of a role's pods, of whatever revision.

    A number of pods, as Kubernetes finds no replicas of a RayCluster to take a share of. Pods in
    which Ray does not listen may always go.
    """
    return child(
        service,
        "policy/v1",
        "PodDisruptionBudget",
        names.pool_name(service.metadata.name, role),
        str(role),
        spec={
            "minAvailable": min_available,
            "selector": {"matchLabels": selector(service, str(role))},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    )
