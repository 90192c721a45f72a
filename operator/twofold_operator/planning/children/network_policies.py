"""Who may talk to the workers: their routers, each other, the operator, and who scrapes them."""

from typing import Any

from twofold_operator.planning import names
from twofold_operator.planning.children.ownership import child
from twofold_operator.planning.children.pool_manager import HEAD_COMPONENT
from twofold_operator.planning.rollout import ROLES
from twofold_operator.planning.settings import PlanSettings
from twofold_operator.resources import LLMService


def workers_policy(service: LLMService, settings: PlanSettings) -> dict[str, Any]:
    """Return the policy of the pods of a service's own Ray clusters.

    Engines listen on ports that they choose, so that no ports are named among our own. Who scrapes
    reaches only the worker's HTTP API: by the others blocks are read and pinned, with no password.
    """
    name = service.metadata.name
    ours = {"podSelector": {"matchLabels": {names.INSTANCE_LABEL: names.cut(name)}}}
    ingress: list[dict[str, Any]] = [
        {"from": [ours]},
        {
            "from": [_namespace(settings.operator_namespace)],
            "ports": [{"port": names.POOLS_PORT, "protocol": "TCP"}],
        },
    ]
    metrics = [{"port": names.WORKER_PORT, "protocol": "TCP"}]
    ingress += [
        {"from": [_namespace(scraper)], "ports": metrics}
        for scraper in settings.scraping_namespaces
    ]
    components = [HEAD_COMPONENT, *(str(role) for role in ROLES)]
    return child(
        service,
        "networking.k8s.io/v1",
        "NetworkPolicy",
        names.cut(f"{name}-workers"),
        "workers",
        spec={
            "podSelector": {
                "matchLabels": {names.INSTANCE_LABEL: names.cut(name)},
                "matchExpressions": [
                    {"key": names.COMPONENT_LABEL, "operator": "In", "values": components}
                ],
            },
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    )


def _namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
