"""A stand-in for kubelets that really runs the pods of Deployments, as processes beside tests."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twofold_operator.planning import names

from .name_proxy import NameProxy
from .programs import LOOPBACK, Program, Programs
from .standins import Entrance, StandIns

Manifest = dict[str, Any]


@dataclass
class Pod:
    template: Manifest
    program: Program
    name: str


class Kubelet(StandIns):
    """The stand-ins, with pods that run: one for each Deployment.

    Those of routers listen on *address*, and the Services before them lead there.
    """

    def __init__(
        self,
        entrance: Entrance,
        namespace: str,
        proxy: NameProxy,
        directory: Path,
        address: str = LOOPBACK,
    ) -> None:
        super().__init__(entrance, namespace, proxy)
        self._programs = Programs(directory, self._read_secret)
        self._address = address
        self._pods: dict[str, Pod] = {}
        self._coming: dict[str, Pod] = {}
        """Which replace those of the same Deployment as soon as they are ready."""
        self._started = 0
        self._led: dict[str, int] = {}
        """The ports that Services lead to, by their names."""

    def url_of(self, deployment: str) -> str:
        return self._pods[deployment].program.url

    def close(self) -> None:
        for pods in (self._pods, self._coming):
            for name in list(pods):
                self._end(pods.pop(name))
        self._programs.close()
        super().close()

    def _ready_pods(self, deployment: Manifest) -> int:
        name = deployment["metadata"]["name"]
        template = deployment["spec"]["template"]
        pod = self._pods.get(name)
        is_recreated = deployment["spec"]["strategy"].get("type") == "Recreate"
        is_other = pod is not None and pod.template != template
        if pod is not None and (pod.program.has_ended or (is_other and is_recreated)):
            self._end(self._pods.pop(name))
        if name not in self._pods:
            self._pods[name] = self._start(name, template)
        elif is_other:
            self._replace(name, template)
        return int(self._pods[name].program.is_ready())

    def _replace(self, name: str, template: Manifest) -> None:
        """Have a pod of *template* beside the one before, and instead of it when it is ready."""
        coming = self._coming.get(name)
        if coming is not None and coming.template != template:
            self._end(self._coming.pop(name))
        if name not in self._coming:
            self._coming[name] = self._start(name, template)
        elif self._coming[name].program.is_ready():
            self._end(self._pods[name])
            self._pods[name] = self._coming.pop(name)

    def _live_managers(
        self, children: list[Manifest], homes: list[Manifest], pods: list[Manifest]
    ) -> None:
        """Have the Services of pool managers lead to their pods; end pods without Deployment."""
        wanted = {home["metadata"]["name"] for home in homes if home["kind"] == "Deployment"}
        for name in self._pods.keys() - wanted:
            self._end(self._pods.pop(name))
        self._proxy.ports = {
            f"{name}.{self._namespace}.svc": pod.program.port
            for name, pod in self._pods.items()
            if name.endswith("-pools")
        }
        if self._address != LOOPBACK:  # where the API server leads nobody
            for child in children:
                if child["kind"] == "Service":
                    self._lead(child["metadata"]["name"])

    def _lead(self, service: str) -> None:
        """Have the Service before routers lead to their pod, as the endpoints' controller does."""
        pod = self._pods.get(names.router_name(service))
        if pod is None or self._led.get(service) == pod.program.port:
            return
        path = f"/api/v1/namespaces/{self._namespace}/endpoints"
        port = {"name": "http", "port": pod.program.port}
        # The API server leads to pods only, at addresses that are theirs.
        target = {"kind": "Pod", "namespace": self._namespace, "name": pod.name}
        address = {"ip": pod.program.address, "targetRef": target}
        subset = {"addresses": [address], "ports": [port]}
        endpoints = {"metadata": {"name": service}, "subsets": [subset]}
        if service in self._led:
            self._ask("PUT", f"{path}/{service}", endpoints)
        else:
            self._ask("POST", path, endpoints)
        self._led[service] = pod.program.port

    def _start(self, name: str, template: Manifest) -> Pod:
        (container,) = template["spec"]["containers"]
        probe = container["readinessProbe"].get("httpGet", {}).get("path")
        address = self._address if probe else LOOPBACK
        program = self._programs.start(name, container, probe, address)
        self._started += 1
        pod = Pod(template, program, f"{name}-{self._started}")
        metadata = {"name": pod.name, "labels": template["metadata"]["labels"]}
        shown = {"metadata": metadata, "spec": {**template["spec"], "schedulerName": "nobody"}}
        path = f"/api/v1/namespaces/{self._namespace}/pods"
        self._ask("POST", path, shown)
        status = {"status": {"podIP": address, "podIPs": [{"ip": address}]}}
        self._ask("PATCH", f"{path}/{pod.name}/status", status, "application/merge-patch+json")
        return pod

    def _end(self, pod: Pod) -> None:
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod.name}"
        self._programs.end(
            pod.program, lambda: self._ask("DELETE", path, {"gracePeriodSeconds": 0})
        )
