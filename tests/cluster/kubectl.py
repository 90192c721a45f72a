"""kubectl, as a person types it."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SETTLE_SECONDS = 90.0
RUN_SECONDS = 400.0
Manifest = dict[str, Any]


class KubectlError(Exception):
    """kubectl ended with an error; the message is what it wrote."""


class Kubectl:
    """Runs kubectl as the user of *kubeconfig*, in *namespace*."""

    def __init__(self, kubeconfig: Path, namespace: str = "default") -> None:
        self.kubeconfig = kubeconfig
        self.namespace = namespace
        self.settle_seconds = SETTLE_SECONDS

    def run(self, *arguments: str, given: str | None = None) -> str:
        """Return what kubectl prints.

        Raises:
            KubectlError: it refused, or the server did.
        """
        program = find_kubectl()
        assert program is not None, "the fixtures skip the test where there is no kubectl"
        done = subprocess.run(
            [program, f"--namespace={self.namespace}", *arguments],
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            input=given,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def apply(self, *manifests: Manifest, options: tuple[str, ...] = ()) -> str:
        """``kubectl apply`` of some objects."""
        content = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        return self.run("apply", "-f", "-", *options, given=json.dumps(content))

    def get(self, kind: str, name: str) -> Manifest | None:
        """Return an object, None if there is none."""
        found = self.run("get", kind, name, "--ignore-not-found", "-o", "json")
        return json.loads(found) if found.strip() else None

    def list(self, kind: str, selector: str = "") -> list[Manifest]:
        items: list[Manifest] = json.loads(
            self.run("get", kind, f"--selector={selector}", "-o", "json")
        )["items"]
        return items

    def wait_for(self, what: str, is_so: Callable[[], Any]) -> Any:
        """Ask until *is_so* returns something true, and return that."""
        give_up_at = time.monotonic() + self.settle_seconds
        while not (found := is_so()):
            assert time.monotonic() < give_up_at, f"not within {self.settle_seconds:g} s: {what}"
            time.sleep(0.2)
        return found


def find_kubectl() -> str | None:
    """Return the one that scripts/install-helm has installed, else the machine's own."""
    installed = Path(__file__).parents[2] / ".venv" / "bin" / "kubectl"
    return str(installed) if installed.exists() else shutil.which("kubectl")
