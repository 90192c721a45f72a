"""The chart, installed on a cluster that has all that an API server alone has not."""

import os
import subprocess
from pathlib import Path

import pytest

from .houses import House
from .kubectl import Kubectl
from .operators import HELM, REPOSITORY, Chart, Operator

INSTALL_SECONDS = 600.0
TEST_SECONDS = 400.0
"""More than the chart gives its test by default."""
SETTLE_SECONDS = 600.0
DELETE_SECONDS = 300.0
RELEASE = "twofold"
OPERATOR = "app.kubernetes.io/component=operator"


class InstalledOperator(Operator):
    """The operator in a pod of the cluster, where the chart has put it."""

    def __init__(self, kubectl: Kubectl, values: list[str]) -> None:
        self._kubectl = kubectl
        self._values = values

    def start(self) -> None:
        values = [word for value in self._values for word in ("--set", value)]
        chart = str(REPOSITORY / "helm" / "twofold")
        self._helm("upgrade", "--install", RELEASE, chart, "--skip-crds", "--wait", *values)

    def kill(self) -> None:
        self._kubectl.run("delete", "pod", f"--selector={OPERATOR}", "--grace-period=0", "--force")

    def close(self) -> None:
        self._helm("uninstall", RELEASE, "--ignore-not-found", "--wait")

    def log(self) -> str:
        return self._kubectl.run("logs", f"--selector={OPERATOR}", "--tail=50")

    def test(self) -> str:
        """Run the chart's own tests; return what they wrote."""
        return self._helm("test", RELEASE, "--logs", f"--timeout={TEST_SECONDS:g}s")

    def _helm(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(HELM), *arguments, f"--namespace={self._kubectl.namespace}"],
            env={**os.environ, "KUBECONFIG": str(self._kubectl.kubeconfig)},
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{done.stderr}\n{done.stdout}"
        return done.stdout


class InstalledHouse(House):
    """A house of the cluster that the user names: with real pods, which take their time."""

    def __init__(self, kubectl: Kubectl, values: list[str], directory: Path) -> None:
        kubectl.settle_seconds = SETTLE_SECONDS
        self._values = values
        super().__init__(kubectl, Chart(kubectl, apply=False), None, "", directory)

    def __exit__(self, *_: object) -> None:
        # Nobody else would let the services go, and with them the namespace.
        try:
            self.kubectl.run("delete", "llm", "--all", f"--timeout={DELETE_SECONDS:g}s")
        finally:
            super().__exit__()

    def need_stand_ins(self, why: str) -> None:
        pytest.skip(why)

    def break_all_but(self, revision: str) -> None:
        """An image that nobody has is enough."""

    def _make_operator(self, name: str) -> Operator:
        operator = InstalledOperator(self.kubectl, self._values)
        self._operators.append(operator)
        return operator
