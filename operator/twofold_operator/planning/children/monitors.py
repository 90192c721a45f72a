"""What has the Prometheus operator scrape the routers and the workers."""

from collections.abc import Set
from typing import Any

from twofold_operator.planning import names
from twofold_operator.planning.children import router
from twofold_operator.planning.children.ownership import child, selector
from twofold_operator.resources import LLMService

API_VERSION = "monitoring.coreos.com/v1"
SCRAPE_CONFIG_VERSION = "monitoring.coreos.com/v1alpha1"

_INTERVAL = "15s"


def monitors(service: LLMService, apis: Set[str]) -> list[dict[str, Any]]:
    """Return what the cluster has of the Prometheus operator's kinds; nothing unless asked.

    The routers get a ServiceMonitor, or a PodMonitor where there is only that. Workers choose
    their ports, so that no selector finds them: a ScrapeConfig asks a router where they are.
    """
    if not service.spec.observability.service_monitor:
        return []
    made = [
        _monitor(service, kind, endpoints)
        for kind, endpoints in (
            ("ServiceMonitor", "endpoints"),
            ("PodMonitor", "podMetricsEndpoints"),
        )
        if kind in apis
    ][:1]
    if "ScrapeConfig" in apis:
        made.append(_scrape_config(service))
    return made


def _monitor(service: LLMService, kind: str, endpoints: str) -> dict[str, Any]:
    endpoint = {
        "port": "http",
        "path": "/metrics",
        "interval": _INTERVAL,
        # What the dashboards select by; a PodMonitor sets none by itself.
        "relabelings": [{"targetLabel": "service", "replacement": service.metadata.name}],
    }
    spec = {
        "selector": {"matchLabels": selector(service, router.COMPONENT)},
        endpoints: [endpoint],
    }
    name = names.router_name(service.metadata.name)
    return _labelled(service, child(service, API_VERSION, kind, name, router.COMPONENT, spec=spec))


def _scrape_config(service: LLMService) -> dict[str, Any]:
    name, namespace = service.metadata.name, service.metadata.namespace
    url = f"http://{name}.{namespace}.svc:{service.spec.gateway.port}/metrics/targets"
    spec = {"httpSDConfigs": [{"url": url}], "scrapeInterval": _INTERVAL}
    return _labelled(
        service,
        child(
            service,
            SCRAPE_CONFIG_VERSION,
            "ScrapeConfig",
            f"{name}-workers",
            router.COMPONENT,
            spec=spec,
        ),
    )


def _labelled(service: LLMService, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return *manifest* with what a Prometheus selects by, which takes none of our labels away."""
    labels = manifest["metadata"]["labels"]
    manifest["metadata"]["labels"] = {**service.spec.observability.labels, **labels}
    return manifest
