"""Who may talk to the workers: their routers, each other, and who scrapes them.

Pool managers are told what to want by whoever reaches their port, so that is the operator's alone.
"""

from typing import Any

from twofold_operator.planning import names
from twofold_operator.planning.addresses import POOLS_COMPONENT
from twofold_operator.planning.children.ownership import child, selector
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
    # Other charts call their releases by the same label.
    ours = {
        names.INSTANCE_LABEL: names.cut(name),
        names.MANAGED_BY_LABEL: names.FIELD_MANAGER,
    }
    ingress: list[dict[str, Any]] = [
        {"from": [{"podSelector": {"matchLabels": ours}}]},
        _operator(settings),
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


def managers_policy(service: LLMService, settings: PlanSettings) -> dict[str, Any]:
    """Return the policy of a service's pool managers on an existing Ray.

    Such a pod is a node of that Ray, whose nodes may be anywhere and reach it at ports of Ray's
    choice: only the manager's own port is closed to them.
    """
    name = service.metadata.name
    of_ray = [
        {"port": 1, "endPort": names.POOLS_PORT - 1, "protocol": "TCP"},
        {"port": names.POOLS_PORT + 1, "endPort": 65_535, "protocol": "TCP"},
    ]
    return child(
        service,
        "networking.k8s.io/v1",
        "NetworkPolicy",
        names.cut(f"{name}-pools"),
        POOLS_COMPONENT,
        spec={
            "podSelector": {"matchLabels": selector(service, POOLS_COMPONENT)},
            "policyTypes": ["Ingress"],
            "ingress": [_operator(settings), {"ports": of_ray}],
        },
    )


def _operator(settings: PlanSettings) -> dict[str, Any]:
    """Return the rule that lets the operator, by the labels that the chart gives its pods, reach a
    pool manager."""
    pods = {"app.kubernetes.io/part-of": "twofold", names.COMPONENT_LABEL: "operator"}
    peer = {**_namespace(settings.operator_namespace), "podSelector": {"matchLabels": pods}}
    return {
        "from": [peer],
        "ports": [{"port": names.POOLS_PORT, "protocol": "TCP"}],
    }


def _namespace(name: str) -> dict[str, Any]:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
