"""What a cluster has beside an API server, as far as an operator waits for it.

Routers' Deployments become available, RayClusters have their pods, and behind each Service of a
pool manager one answers.
"""

import threading
from typing import Any, Self

import httpx
from tests.cluster.control_plane import ADMIN_TOKEN, ControlPlane
from tests.cluster.name_proxy import NameProxy

from benchmarks.quiet_managers import QuietManagers, pod_name

LOOK_SECONDS = 1.0
NAMESPACE = "models"
SERVICES_PATH = f"/apis/serving.twofold.dev/v1alpha1/namespaces/{NAMESPACE}/llmservices"
DEPLOYMENTS_PATH = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
CLUSTERS_PATH = f"/apis/ray.io/v1/namespaces/{NAMESPACE}/rayclusters"
PODS_PATH = f"/api/v1/namespaces/{NAMESPACE}/pods"
HOMES_PATH = f"/api/v1/namespaces/{NAMESPACE}/services"
_POD_SPEC = {
    # No kubelet is to look for the image.
    "schedulerName": "nobody",
    "containers": [{"name": "worker", "image": "nobody-starts-it"}],
}


class Cluster:
    """An API server as its administrator sees it, and what plays the rest."""

    def __init__(self, plane: ControlPlane, proxy: NameProxy, managers: QuietManagers) -> None:
        self._client = httpx.Client(
            base_url=plane.address["server"],
            headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
            verify=False,
            timeout=60,
        )
        self._proxy = proxy
        self._managers = managers
        self._available: set[str] = set()
        self._peopled: set[str] = set()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._play)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        self._client.close()

    def create(self, path: str, manifest: dict[str, Any]) -> None:
        self._client.post(path, json=manifest).raise_for_status()

    def ready_count(self) -> int:
        """Return how many services say of their newest spec that they are ready."""
        return sum(_is_ready(service) for service in self._list(SERVICES_PATH))

    def _play(self) -> None:
        while not self._ends.wait(LOOK_SECONDS):
            for home in self._list(HOMES_PATH):
                name = home["metadata"]["name"]
                address = f"{name}.{NAMESPACE}.svc"
                if name.endswith("-pools") and address not in self._proxy.ports:
                    self._proxy.ports[address] = self._managers.add(name.removesuffix("-pools"))
            for deployment in self._list(DEPLOYMENTS_PATH):
                self._make_available(deployment["metadata"]["name"])
            for cluster in self._list(CLUSTERS_PATH):
                self._make_pods(cluster)

    def _make_available(self, name: str) -> None:
        if name in self._available:
            return
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        self._client.patch(
            f"{DEPLOYMENTS_PATH}/{name}/status",
            json={"status": {"observedGeneration": 1, **dict.fromkeys(counts, 1)}},
            headers={"Content-Type": "application/merge-patch+json"},
        ).raise_for_status()
        self._available.add(name)

    def _make_pods(self, cluster: dict[str, Any]) -> None:
        """Make the pods of a RayCluster, once: here nobody changes their number."""
        name, uid = cluster["metadata"]["name"], cluster["metadata"]["uid"]
        if name in self._peopled:
            return
        spec = cluster["spec"]
        groups = [("head", 1, spec["headGroupSpec"])]
        groups += [(each["groupName"], each["replicas"], each) for each in spec["workerGroupSpecs"]]
        owner = {"apiVersion": "ray.io/v1", "kind": "RayCluster", "name": name, "uid": uid}
        for group, replicas, told in groups:
            labels = told["template"]["metadata"]["labels"]
            for number in range(replicas):
                pod = pod_name(name, group, number)
                metadata = {"name": pod, "labels": labels, "ownerReferences": [owner]}
                self.create(PODS_PATH, {"metadata": metadata, "spec": _POD_SPEC})
        self._peopled.add(name)

    def _list(self, path: str) -> list[dict[str, Any]]:
        answer = self._client.get(path)
        answer.raise_for_status()
        items: list[dict[str, Any]] = answer.json()["items"]
        return items


def _is_ready(service: dict[str, Any]) -> bool:
    generation = service["metadata"]["generation"]
    return any(
        (each["type"], each["status"], each.get("observedGeneration"))
        == ("Ready", "True", generation)
        for each in service.get("status", {}).get("conditions", ())
    )
