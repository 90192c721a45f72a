"""The cluster that the user names: made ready for the tests, and left as it was."""

import json
from functools import cached_property, partial
from pathlib import Path
from typing import Self

import yaml

from .control_plane import anything
from .kubectl import Kubectl, KubectlError, Manifest
from .namespaces import SESSION, namespace_of

CRDS = Path(__file__).parents[2] / "deploy" / "crds"

CONTROLLERS_SECONDS = 30.0
POD_SECONDS = 120
END_SECONDS = 300.0
PAUSE = "/pause"
"""The image that every kubelet starts first in every pod: it is there, and sleeps."""


class LackingError(Exception):
    """The cluster lacks what a test needs; the message says what."""


class NamedCluster:
    """Between enter and exit the custom resources are defined.

    What is defined here and was not there before is undefined again. Our own that were there stay,
    as this checkout has them.
    """

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig
        self._kubectl = Kubectl(kubeconfig)
        self._made: list[str] = []
        self.has_controllers = True

    def __enter__(self) -> Self:
        try:
            self.has_controllers = self._look_for_controllers()
            self._define([yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))])
            self._check_rules()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait until the tests' namespaces have gone, and undefine what was defined here."""
        if self.has_controllers:  # else nobody ends namespaces
            self._kubectl.settle_seconds = END_SECONDS
            self._kubectl.wait_for(
                "the namespaces of the tests have gone",
                lambda: not self._kubectl.list("namespace", SESSION),
            )
        if self._made:
            self._kubectl.run("delete", "crd", *self._made, f"--timeout={END_SECONDS:g}s")

    @cached_property
    def has_kuberay(self) -> bool:
        """Tell whether somebody looks after RayClusters."""
        if not serves_ray(self._kubectl) or "rayclusters.ray.io" in self._made:
            return False
        with namespace_of(self.kubeconfig) as kubectl:
            kubectl.settle_seconds = CONTROLLERS_SECONDS
            kubectl.apply(_ray_cluster())

            def is_seen() -> bool:
                found = kubectl.get("raycluster", "probe") or {}
                return bool(found.get("status")) or bool(kubectl.list("pod"))

            try:
                kubectl.wait_for("somebody acts on a RayCluster", is_seen)
            except AssertionError:
                return False
        return True

    def need_ray(self) -> None:
        """Have RayClusters defined, loosely where nobody else has."""
        if not serves_ray(self._kubectl):
            self._define([anything("ray.io", "v1", "RayCluster")])

    def startable_image(self) -> str:
        """Return an image whose pods start here and stay.

        Raises:
            LackingError: none does; the message says why.
        """
        if not self.has_controllers:
            raise LackingError(
                "the cluster has no controllers: a namespace got no account `default` within "
                f"{CONTROLLERS_SECONDS:g} s"
            )
        image = self._pause_image()
        with namespace_of(self.kubeconfig) as kubectl:
            kubectl.wait_for("the namespace has its account", lambda: _has_account(kubectl))
            kubectl.apply(_pod(image))
            ready = ("--for=condition=Ready", f"--timeout={POD_SECONDS}s")
            try:
                kubectl.run("wait", "pod/probe", *ready)
            except KubectlError as error:
                status = json.dumps((kubectl.get("pod", "probe") or {}).get("status"))
                raise LackingError(f"no pod starts in this cluster: {error}; {status}") from error
        return image

    def _pause_image(self) -> str:
        nodes = self._kubectl.list("node")
        if not nodes:
            raise LackingError("the cluster has no nodes")
        images: list[str] = [
            name
            for node in nodes
            for image in node.get("status", {}).get("images") or ()
            for name in image.get("names") or ()
        ]
        # A name with a digest cannot be asked of every runtime.
        found = sorted(name for name in images if PAUSE in name or "-pause" in name)
        found = [name for name in found if "@" not in name] or found
        if not found:
            raise LackingError("no node says that it has the image `pause`")
        return found[-1]

    def _look_for_controllers(self) -> bool:
        with namespace_of(self.kubeconfig) as kubectl:
            kubectl.settle_seconds = CONTROLLERS_SECONDS
            try:
                kubectl.wait_for("the namespace has its account", lambda: _has_account(kubectl))
            except AssertionError:
                return False
        return True

    def _define(self, definitions: list[Manifest]) -> None:
        names = [definition["metadata"]["name"] for definition in definitions]
        self._made += [name for name in names if self._kubectl.get("crd", name) is None]
        # The server checks as well; an older one shows kubectl no schema to check rules by.
        told = ("--server-side", "--force-conflicts", "--validate=false")
        self._kubectl.apply(*definitions, options=told)
        self._kubectl.run("wait", "--for=condition=Established", "crd", *names, "--timeout=60s")
        for name in names:
            self._kubectl.wait_for(f"{name} is served", partial(self._is_served, name))

    def _is_served(self, name: str) -> bool:
        try:
            self._kubectl.run("get", name)
        except KubectlError:
            return False
        return True

    def _check_rules(self) -> None:
        kept = self._kubectl.run("get", "crd", "llmservices.serving.twofold.dev", "-o", "json")
        if "x-kubernetes-validations" not in kept:
            raise LackingError("the API server drops the CEL rules of CRDs; 1.29 has them")


def serves_ray(kubectl: Kubectl) -> bool:
    return "ray.io/v1" in kubectl.run("api-versions").split()


def _has_account(kubectl: Kubectl) -> bool:
    return kubectl.get("serviceaccount", "default") is not None


def _ray_cluster() -> Manifest:
    """Return the smallest that KubeRay acts on. Its image is no matter: nobody waits for it."""
    container = {"name": "ray-head", "image": "nobody-starts-it", "imagePullPolicy": "Never"}
    head = {"rayStartParams": {}, "template": {"spec": {"containers": [container]}}}
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": "probe"},
        "spec": {"headGroupSpec": head},
    }


def _pod(image: str) -> Manifest:
    """Return a pod as restricted as those of the operator."""
    security = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    sleeper = {"name": "sleeper", "image": image, "imagePullPolicy": "IfNotPresent"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe"},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{**sleeper, "securityContext": security}],
        },
    }
