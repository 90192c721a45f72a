"""A stand-in for kubelets that really runs the pods of Deployments, as processes beside the tests.

Their commands are those that the operator wrote. What is rewritten is where they listen, since all
pods share one address here, and what ``python`` is.
"""

import base64
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twofold_operator.planning import names

from .control_plane import free_ports, tied
from .name_proxy import NameProxy
from .standins import Entrance, StandIns

END_SECONDS = 120.0
Manifest = dict[str, Any]


@dataclass
class Pod:
    template: Manifest
    process: "subprocess.Popen[bytes]"
    port: int
    name: str

    def is_ready(self) -> bool:
        """Ask as the readiness probe does."""
        probe = self.template["spec"]["containers"][0]["readinessProbe"]
        if "httpGet" not in probe:
            return self.process.poll() is None
        url = f"http://127.0.0.1:{self.port}{probe['httpGet']['path']}"
        try:
            with urllib.request.urlopen(url, timeout=5):
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False


class Kubelet(StandIns):
    """The stand-ins, with pods that run: one for each Deployment."""

    def __init__(
        self, entrance: Entrance, namespace: str, proxy: NameProxy, directory: Path
    ) -> None:
        super().__init__(entrance, namespace, proxy)
        self._directory = directory
        self._pods: dict[str, Pod] = {}
        self._coming: dict[str, Pod] = {}
        """Which replace those of the same Deployment as soon as they are ready."""
        self._started = 0
        self._ending: list[threading.Thread] = []

    def port_of(self, deployment: str) -> int:
        return self._pods[deployment].port

    def close(self) -> None:
        for pods in (self._pods, self._coming):
            for name in list(pods):
                self._end(pods.pop(name))
        for thread in self._ending:
            thread.join()
        super().close()

    def _ready_pods(self, deployment: Manifest) -> int:
        name = deployment["metadata"]["name"]
        template = deployment["spec"]["template"]
        pod = self._pods.get(name)
        is_recreated = deployment["spec"]["strategy"].get("type") == "Recreate"
        is_other = pod is not None and pod.template != template
        if pod is not None and (pod.process.poll() is not None or (is_other and is_recreated)):
            self._end(self._pods.pop(name))
        if name not in self._pods:
            self._pods[name] = self._start(name, template)
        elif is_other:
            self._replace(name, template)
        return int(self._pods[name].is_ready())

    def _replace(self, name: str, template: Manifest) -> None:
        """Have a pod of *template* beside the one before, and instead of it when it is ready."""
        coming = self._coming.get(name)
        if coming is not None and coming.template != template:
            self._end(self._coming.pop(name))
        if name not in self._coming:
            self._coming[name] = self._start(name, template)
        elif self._coming[name].is_ready():
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
            f"{name}.{self._namespace}.svc": pod.port
            for name, pod in self._pods.items()
            if name.endswith("-pools")
        }

    def _start(self, name: str, template: Manifest) -> Pod:
        (port,) = free_ports(1)
        (container,) = template["spec"]["containers"]
        words = [sys.executable if word == "python" else word for word in container["command"]]
        words += [_here(word, port) for word in container["args"]]
        if name.endswith("-pools"):
            words.append(f"--log-dir={self._directory / 'workers'}")
        environment = {each["name"]: self._value(each) for each in container["env"]}
        with (self._directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                tied(words),
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._started += 1
        pod = Pod(template, process, port, f"{name}-{self._started}")
        metadata = {"name": pod.name, "labels": template["metadata"]["labels"]}
        shown = {"metadata": metadata, "spec": {**template["spec"], "schedulerName": "nobody"}}
        self._ask("POST", f"/api/v1/namespaces/{self._namespace}/pods", shown)
        return pod

    def _end(self, pod: Pod) -> None:
        """Send SIGTERM, and give the process the time that its pod has, without waiting here."""
        pod.process.terminate()
        thread = threading.Thread(target=self._see_off, args=(pod,))
        thread.start()
        self._ending.append(thread)

    def _see_off(self, pod: Pod) -> None:
        _wait_or_kill(pod.process)
        path = f"/api/v1/namespaces/{self._namespace}/pods/{pod.name}"
        self._ask("DELETE", path, {"gracePeriodSeconds": 0})

    def _value(self, variable: Manifest) -> str:
        if "value" in variable:
            # Of a volume of the pod's own.
            return re.sub("^/scratch", str(self._directory), variable["value"])
        reference = variable["valueFrom"]["secretKeyRef"]
        path = f"/api/v1/namespaces/{self._namespace}/secrets/{reference['name']}"
        secret = self._ask("GET", path)
        return base64.b64decode(secret["data"][reference["key"]]).decode()


def _here(word: str, port: int) -> str:
    """Return an argument as it must be where pods have no address of their own."""
    word = re.sub(rf"0\.0\.0\.0:{names.POOLS_PORT}$", f"127.0.0.1:{port}", word)
    word = re.sub(rf"^--port={names.ROUTER_PORT}$", f"--port={port}", word)
    return "--host=127.0.0.1" if word == "--host=" else word


def _wait_or_kill(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
