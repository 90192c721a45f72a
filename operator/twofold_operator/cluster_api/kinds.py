"""The kinds of objects that the operator reads or writes, and where the API serves them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twofold_operator.planning.names import FIELD_MANAGER, MANAGED_BY_LABEL
from twofold_operator.resources.kinds import GROUP, VERSION


@dataclass(frozen=True, slots=True)
class Kind:
    group: str
    version: str
    kind: str
    plural: str

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str | None = None, subresource: str = "") -> str:
        """Without *namespace* the path lists all namespaces."""
        parts = ["/apis", self.group, self.version] if self.group else ["/api", self.version]
        if namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


LLM_SERVICES = Kind(GROUP, VERSION, "LLMService", "llmservices")
WORKER_POOLS = Kind(GROUP, VERSION, "WorkerPool", "workerpools")
LORA_ADAPTERS = Kind(GROUP, VERSION, "LoRAAdapter", "loraadapters")
RAY_CLUSTERS = Kind("ray.io", "v1", "RayCluster", "rayclusters")
SERVICE_MONITORS = Kind("monitoring.coreos.com", "v1", "ServiceMonitor", "servicemonitors")
POD_MONITORS = Kind("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors")
SCRAPE_CONFIGS = Kind("monitoring.coreos.com", "v1alpha1", "ScrapeConfig", "scrapeconfigs")
LEASES = Kind("coordination.k8s.io", "v1", "Lease", "leases")
EVENTS = Kind("", "v1", "Event", "events")

RESOURCES = (LLM_SERVICES, WORKER_POOLS, LORA_ADAPTERS)
"""Of our own API group: without it there is nothing to operate."""

CHILDREN = (
    Kind("", "v1", "ConfigMap", "configmaps"),
    Kind("", "v1", "Secret", "secrets"),
    Kind("", "v1", "Service", "services"),
    Kind("apps", "v1", "Deployment", "deployments"),
    Kind("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers"),
    Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
    Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
)
"""Made by the operator, on every cluster."""

OPTIONAL_CHILDREN = (RAY_CLUSTERS, SERVICE_MONITORS, POD_MONITORS, SCRAPE_CONFIGS)
"""Made by the operator where the cluster serves their API."""

PODS = Kind("", "v1", "Pod", "pods")
"""Those of our Deployments and RayClusters: only looked at."""

WATCHED = (*RESOURCES, *CHILDREN, PODS, *OPTIONAL_CHILDREN)

_BY_NAME = {(kind.group, kind.kind): kind for kind in (*WATCHED, LEASES, EVENTS)}


def kind_of(manifest: Mapping[str, Any]) -> Kind:
    """The kind of *manifest*. One that is not in the table is a bug of whoever planned it."""
    return kind_named(manifest["apiVersion"], manifest["kind"])


def kind_named(api_version: str, kind: str) -> Kind:
    group = api_version.rpartition("/")[0]
    return _BY_NAME[(group, kind)]


def label_selector(kind: Kind) -> str | None:
    """What the API server shall filter by: of the children's kinds only ours are ours."""
    if kind in (LLM_SERVICES, LORA_ADAPTERS):
        return None
    return f"{MANAGED_BY_LABEL}={FIELD_MANAGER}"
