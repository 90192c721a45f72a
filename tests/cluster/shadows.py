"""Real pods that sleep, each with a shadow: a process beside the tests that does its work.

For a cluster that has controllers and kubelets and none of our images. Nothing is played that the
cluster has: it makes, replaces and ends the pods of the operator's Deployments, and their status is
its own. A pod of the sleeping image runs, but is not ready before its shadow is: a readiness gate
of the pod's, which Kubernetes leaves to others, is opened by then. A pod that ends, ends its
shadow as the kubelet would: with SIGTERM, and the time to drain.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twofold_operator.planning import names
from twofold_operator.planning.addresses import POOLS_COMPONENT
from twofold_operator.planning.children.router import COMPONENT as ROUTER_COMPONENT

from .name_proxy import NameProxy
from .programs import Program, Programs
from .standins import Entrance, Lacking, StandIns

GATE = "tests.twofold.dev/shadow"
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """What a container of the operator's does, which here only sleeps."""

    module: str
    ready_path: str | None


WORK: Mapping[str, Work] = {
    "router": Work("twofold_router", "/ready"),
    "pools": Work("twofold_engine.pools", None),
}


@dataclass
class Shadow:
    deployment: str
    program: Program
    is_ready: bool = False


class Shadows(StandIns):
    """Has a process beside the tests for each pod of a router or a pool manager that runs."""

    def __init__(
        self, entrance: Entrance, namespace: str, proxy: NameProxy, directory: Path
    ) -> None:
        super().__init__(entrance, namespace, proxy, Lacking(controllers=False, kuberay=False))
        self._programs = Programs(directory, self._read_secret)
        self._shadows: dict[str, Shadow] = {}
        """By the pods' uids."""

    def url_of(self, deployment: str) -> str:
        """Return where a ready pod of *deployment* is entered."""
        return next(
            shadow.program.url
            for shadow in list(self._shadows.values())
            if shadow.deployment == deployment and shadow.is_ready
        )

    def close(self) -> None:
        for uid in list(self._shadows):
            self._programs.end(self._shadows.pop(uid).program)
        self._programs.close()
        super().close()

    def _live_managers(
        self, children: list[Manifest], homes: list[Manifest], pods: list[Manifest]
    ) -> None:
        """Have a shadow for each pod, and the Services of pool managers lead there."""
        running = {pod["metadata"]["uid"]: pod for pod in pods if _is_running(pod)}
        for uid in self._shadows.keys() - running.keys():
            self._programs.end(self._shadows.pop(uid).program)
        for uid, pod in running.items():
            if uid not in self._shadows or self._shadows[uid].program.has_ended:
                self._shadows[uid] = self._start(pod)
            self._tell(pod, self._shadows[uid])
        self._proxy.ports = {
            f"{shadow.deployment}.{self._namespace}.svc": shadow.program.port
            for shadow in self._shadows.values()
            if shadow.deployment.endswith("-pools")
        }

    def _start(self, pod: Manifest) -> Shadow:
        # A mesh may have put a container of its own beside.
        container = next(each for each in pod["spec"]["containers"] if each["name"] in WORK)
        work = WORK[container["name"]]
        command = {**container, "command": ["python", "-m", work.module]}
        name = pod["metadata"]["name"]
        return Shadow(_deployment(pod), self._programs.start(name, command, work.ready_path))

    def _tell(self, pod: Manifest, shadow: Shadow) -> None:
        """Open or close the gate of *pod*, as far as it is not."""
        is_ready = shadow.program.is_ready()
        condition = {"type": GATE, "status": str(is_ready)}
        told = pod["status"].get("conditions", ())
        if not any(condition.items() <= each.items() for each in told):
            path = f"{self._path(pod)}/status"
            change = {"status": {"conditions": [condition]}}
            self._ask("PATCH", path, change, "application/strategic-merge-patch+json")
        shadow.is_ready = is_ready


def _is_running(pod: Manifest) -> bool:
    component = pod["metadata"].get("labels", {}).get(names.COMPONENT_LABEL)
    is_ours = component in (ROUTER_COMPONENT, POOLS_COMPONENT)
    return is_ours and pod.get("status", {}).get("phase") == "Running"


def _deployment(pod: Manifest) -> str:
    """Return the name of the Deployment, which only a ReplicaSet between them knows."""
    labels = pod["metadata"]["labels"]
    service = labels[names.INSTANCE_LABEL]
    if labels[names.COMPONENT_LABEL] == ROUTER_COMPONENT:
        return names.router_name(service)
    return names.pools_name(service, labels[names.REVISION_LABEL])
