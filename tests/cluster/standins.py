"""What a cluster has and this API server has not: controllers, kubelets, KubeRay, pool managers.

As little of each as a service needs to live: Deployments are available, RayClusters have their
pods, what lost its owner is collected, and a pool manager answers behind each of its Services.
"""

import base64
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import httpx

from twofold_cluster.identity import Role
from twofold_operator.planning import manager_addresses, names

from .managers import StandInManager
from .name_proxy import NameProxy

STEP_SECONDS = 0.2
ENDING = "tests.twofold.dev/ending"
"""A finalizer: no kubelet takes its time to end a pod."""
Manifest = dict[str, Any]

CHILDREN = (
    "api/v1 configmaps",
    "api/v1 secrets",
    "api/v1 services",
    "api/v1 pods",
    "apis/apps/v1 deployments",
    "apis/autoscaling/v2 horizontalpodautoscalers",
    "apis/networking.k8s.io/v1 networkpolicies",
    "apis/policy/v1 poddisruptionbudgets",
    "apis/ray.io/v1 rayclusters",
    "apis/serving.twofold.dev/v1alpha1 workerpools",
)


@dataclass(frozen=True)
class Entrance:
    """How an administrator is let into an API server."""

    server: str
    headers: Mapping[str, str]
    tls: ssl.SSLContext | None = None
    """None: whoever answers is trusted."""


@dataclass(frozen=True)
class Lacking:
    """What a cluster has not, beside pool managers. What it has the stand-ins leave alone."""

    controllers: bool = True
    """Kubernetes' own, and kubelets: Deployments, the garbage collector."""
    kuberay: bool = True
    """Pods of RayClusters."""


class StandIns:
    """Plays what is lacking in one namespace, a step every fifth of a second."""

    def __init__(
        self, entrance: Entrance, namespace: str, proxy: NameProxy, lacking: Lacking | None = None
    ) -> None:
        self._namespace = namespace
        self._proxy = proxy
        self._lacking = lacking or Lacking()
        self._client = httpx.Client(
            base_url=entrance.server,
            headers=dict(entrance.headers),
            verify=entrance.tls or False,
            timeout=60,
        )
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._pods_made = 0
        self.works: set[str] | None = None
        """Revisions whose engines get ready; None: all."""
        self.lost: set[str] = set()
        """Pods that do not end when they are deleted."""
        self.managers: dict[str, StandInManager] = {}
        """By address."""
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        if self._lacking.kuberay:
            for pod in self._list("api/v1 pods"):
                if ENDING in pod["metadata"].get("finalizers", ()):
                    self._let_go(pod)
        self.close()
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """End what was started here; called when no step is taken any more."""
        for manager in self.managers.values():
            manager.close()
        self._client.close()

    def _run(self) -> None:
        try:
            while not self._ends.wait(STEP_SECONDS):
                self._step()
        except Exception as error:  # noqa: BLE001 raised again where the test ends
            self.error = error

    def _step(self) -> None:
        services = self._list("apis/serving.twofold.dev/v1alpha1 llmservices")
        children = [child for kind in CHILDREN for child in self._list(kind)]
        for child in children:
            is_lost = child["metadata"]["name"] in self.lost
            if child["kind"] == "Pod" and _is_leaving(child) and not is_lost:
                self._let_go(child)
        if self._lacking.controllers:
            children = self._collect(children, services)
            for child in children:
                if child["kind"] == "Deployment":
                    self._make_available(child)
        clusters = [child for child in children if child["kind"] == "RayCluster"]
        pods = [child for child in children if child["kind"] == "Pod"]
        for cluster in clusters:
            if self._lacking.kuberay:
                self._make_pods(cluster, pods)
            elif _is_leaving(cluster):
                self._let_go(cluster)
        homes = clusters + [child for child in children if child["kind"] == "Deployment"]
        staying = [pod for pod in pods if not _is_leaving(pod)]
        self._live_managers(children, homes, staying)

    def _collect(self, children: list[Manifest], services: list[Manifest]) -> list[Manifest]:
        """Delete what has no owner any more, as the garbage collector does; return the others."""
        owners = {each["metadata"]["uid"] for each in [*services, *children]}
        kept = []
        for child in children:
            wanted = child["metadata"].get("ownerReferences", [])
            if wanted and not any(owner["uid"] in owners for owner in wanted):
                self._ask("DELETE", self._path(child), {"gracePeriodSeconds": 0})
            else:
                kept.append(child)
        return kept

    def _make_available(self, deployment: Manifest) -> None:
        replicas = self._ready_pods(deployment)
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            **dict.fromkeys(
                ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas
            ),
        }
        if status.items() <= deployment.get("status", {}).items():
            return
        path = f"{self._path(deployment)}/status"
        self._ask("PATCH", path, {"status": status}, "application/merge-patch+json")

    def _ready_pods(self, deployment: Manifest) -> int:
        """Return how many pods of *deployment* are ready: as many as it wants."""
        replicas: int = deployment["spec"].get("replicas", 1)
        return replicas

    def _make_pods(self, cluster: Manifest, pods: list[Manifest]) -> None:
        """Have as many pods as each group wants; those to delete go first.

        As KubeRay does, it counts what ends among what is there, but for those to delete.
        """
        if _is_leaving(cluster):
            return
        for group in cluster["spec"]["workerGroupSpecs"]:
            labels = group["template"]["metadata"]["labels"]
            there = [pod for pod in pods if labels.items() <= pod["metadata"]["labels"].items()]
            told = set(group.get("scaleStrategy", {}).get("workersToDelete", ()))
            doomed = [pod for pod in there if pod["metadata"]["name"] in told]
            there = [pod for pod in there if pod not in doomed]
            surplus = max(0, len(there) - group["replicas"])
            for pod in doomed + there[:surplus]:
                self._ask("DELETE", self._path(pod))
            for _ in range(group["replicas"] - len(there)):
                self._make_pod(cluster, group["groupName"], labels)

    def _make_pod(self, cluster: Manifest, group: str, labels: dict[str, str]) -> None:
        self._pods_made += 1
        metadata = cluster["metadata"]
        owner = {name: cluster[name] for name in ("apiVersion", "kind")}
        owner |= {name: metadata[name] for name in ("name", "uid")}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{metadata['name']}-{group}-{self._pods_made}",
                "labels": labels,
                "ownerReferences": [owner],
                "finalizers": [ENDING],
            },
            # No kubelet is to look for the image.
            "spec": {
                "schedulerName": "nobody",
                "containers": [{"name": "worker", "image": "nobody-starts-it"}],
            },
        }
        self._ask("POST", f"/api/v1/namespaces/{self._namespace}/pods", pod)

    def _let_go(self, child: Manifest) -> None:
        """Let a pod end, or have KubeRay not look after what Ray left in a Redis that there is
        not."""
        if child["metadata"].get("finalizers"):
            change = {"metadata": {"finalizers": None}}
            self._ask("PATCH", self._path(child), change, "application/merge-patch+json")

    def _live_managers(
        self, children: list[Manifest], homes: list[Manifest], pods: list[Manifest]
    ) -> None:
        wanted = {}
        for service in (child for child in children if child["kind"] == "Service"):
            home = _home_of(service, homes)
            for address in manager_addresses([service]) if home else ():
                wanted[address] = home
        for address in self.managers.keys() - wanted.keys():
            self._proxy.ports.pop(address.rpartition(":")[0])
            self.managers.pop(address).close()
        for address, home in wanted.items():
            assert home is not None
            if address not in self.managers:
                prefix = home["metadata"]["name"].removesuffix("-pools")
                manager = StandInManager(prefix)
                self.managers[address] = manager
                self._proxy.ports[address.rpartition(":")[0]] = manager.port
            self._live(self.managers[address], home, pods)

    def _live(self, manager: StandInManager, home: Manifest, pods: list[Manifest]) -> None:
        revision = home["metadata"]["labels"][names.REVISION_LABEL]

        def free_node(role: Role) -> str | None:
            if home["kind"] == "Deployment":
                return "elsewhere"
            busy = {worker.node for worker in manager._double.workers}
            for pod in pods:
                labels = pod["metadata"]["labels"]
                found = labels.get(names.COMPONENT_LABEL), labels.get(names.REVISION_LABEL)
                if found == (str(role), revision) and pod["metadata"]["name"] not in busy:
                    return str(pod["metadata"]["name"])
            return None

        manager.live(free_node, is_broken=self.works is not None and revision not in self.works)

    def _read_secret(self, name: str, key: str) -> str:
        found = self._ask("GET", f"/api/v1/namespaces/{self._namespace}/secrets/{name}")
        return base64.b64decode(found["data"][key]).decode()

    def _list(self, kind: str) -> list[Manifest]:
        prefix, plural = kind.split()
        found = self._ask("GET", f"/{prefix}/namespaces/{self._namespace}/{plural}")
        version = found["apiVersion"]
        kind_name = found["kind"].removesuffix("List")
        return [{"apiVersion": version, "kind": kind_name, **item} for item in found["items"]]

    def _path(self, child: Manifest) -> str:
        version = child["apiVersion"]
        root = "apis" if "/" in version else "api"
        plural = "networkpolicies" if child["kind"] == "NetworkPolicy" else None
        plural = plural or f"{child['kind'].lower()}s"
        name = child["metadata"]["name"]
        return f"/{root}/{version}/namespaces/{self._namespace}/{plural}/{name}"

    def _ask(
        self, method: str, path: str, body: Manifest | None = None, kind: str = "application/json"
    ) -> Manifest:
        """Ask the API server; what has gone or has changed meanwhile is seen at the next step."""
        answer = self._client.request(method, path, json=body, headers={"Content-Type": kind})
        if answer.status_code not in (404, 409):
            answer.raise_for_status()
        found: Manifest = answer.json()
        return found


def _home_of(service: Manifest, homes: list[Manifest]) -> Manifest | None:
    """Return the RayCluster or Deployment whose pod a Service selects."""
    wanted = service["spec"].get("selector", {}).get(names.REVISION_LABEL)
    instance = service["metadata"].get("labels", {}).get(names.INSTANCE_LABEL)
    if wanted is None:
        return None
    for home in homes:
        labels = home["metadata"].get("labels", {})
        found = labels.get(names.REVISION_LABEL), labels.get(names.INSTANCE_LABEL)
        if found == (wanted, instance) and not _is_leaving(home):
            return home
    return None


def _is_leaving(found: Manifest) -> bool:
    return "deletionTimestamp" in found["metadata"]
