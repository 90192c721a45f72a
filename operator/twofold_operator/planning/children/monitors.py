"""What has the Prometheus operator scrape the routers."""

from collections.abc import Set
from typing import Any

from twofold_operator.planning import names
from twofold_operator.planning.children import router
from twofold_operator.planning.children.ownership import child, selector
from twofold_operator.resources import LLMService

API_VERSION = "monitoring.coreos.com/v1"

_ENDPOINT = {"port": "http", "path": "/metrics", "interval": "15s"}


def monitors(service: LLMService, apis: Set[str]) -> list[dict[str, Any]]:
    """Return a ServiceMonitor, or a PodMonitor where there is only that; nothing unless asked."""
    if not service.spec.observability.service_monitor:
        return []
    for kind, endpoints in (
        ("ServiceMonitor", "endpoints"),
        ("PodMonitor", "podMetricsEndpoints"),
    ):
        if kind in apis:
            return [_monitor(service, kind, endpoints)]
    return []


def _monitor(service: LLMService, kind: str, endpoints: str) -> dict[str, Any]:
    manifest = child(
        service,
        API_VERSION,
        kind,
        names.router_name(service.metadata.name),
        router.COMPONENT,
        spec={
            "selector": {"matchLabels": selector(service, router.COMPONENT)},
            endpoints: [_ENDPOINT],
        },
    )
    labels = manifest["metadata"]["labels"]
    manifest["metadata"]["labels"] = {**service.spec.observability.labels, **labels}
    return manifest
