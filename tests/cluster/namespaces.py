"""Namespaces of the tests' own, which end with whatever is in them."""

import contextlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .kubectl import Kubectl, KubectlError

SESSION = f"twofold-test={uuid.uuid4().hex[:8]}"
"""Labels the namespaces of this process."""

HELD = ("llmservices.serving.twofold.dev", "rayclusters.ray.io")
"""Kinds whose objects wait for an operator to let them go."""

NO_FINALIZERS = ("--type=merge", "-p", json.dumps({"metadata": {"finalizers": None}}))


@contextmanager
def namespace_of(kubeconfig: Path) -> Iterator[Kubectl]:
    """Make a namespace, and yield kubectl in it. It is ending, and will end, at the exit."""
    name = f"twofold-test-{uuid.uuid4().hex[:8]}"
    cluster = Kubectl(kubeconfig)
    cluster.run("create", "namespace", name)
    cluster.run("label", "namespace", name, SESSION)
    kubectl = Kubectl(kubeconfig, name)
    try:
        yield kubectl
    finally:
        let_go(kubectl)
        cluster.run("delete", "namespace", name, "--wait=false")


def let_go(kubectl: Kubectl) -> None:
    """Delete what would hold the namespace for ever when no operator runs any more."""
    defined = set(kubectl.run("get", "crd", "-o", "name").split())
    for kind in HELD:
        if f"customresourcedefinition.apiextensions.k8s.io/{kind}" not in defined:
            continue
        # First the deletion: nobody can add a finalizer after it.
        kubectl.run("delete", kind, "--all", "--wait=false")
        for held in kubectl.list(kind):
            if held["metadata"].get("finalizers"):
                with contextlib.suppress(KubectlError):  # it may have gone meanwhile
                    kubectl.run("patch", kind, held["metadata"]["name"], *NO_FINALIZERS)
