"""The chart as releases of Helm: installed, upgraded, rolled back and removed, without pods."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .control_plane import ControlPlane
from .kubectl import Kubectl
from .name_proxy import NameProxy
from .operators import HELM, REPOSITORY

RELEASE_SECONDS = 300.0
KINDS = "deployment,statefulset,service,configmap,role,rolebinding,serviceaccount,networkpolicy"
Helm = Callable[..., str]


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    """The chart without its demand on the version: what it renders is older than the rules are."""
    copied = tmp_path / "twofold"
    shutil.copytree(REPOSITORY / "helm" / "twofold", copied)
    lines = (copied / "Chart.yaml").read_text().splitlines()
    kept = [line for line in lines if not line.startswith("kubeVersion:")]
    assert len(kept) == len(lines) - 1
    (copied / "Chart.yaml").write_text("\n".join(kept))
    return copied


@pytest.fixture
def helm(quarters: tuple[Kubectl, NameProxy], control_plane: ControlPlane, tmp_path: Path) -> Helm:
    kubectl, _ = quarters
    homes = ("HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME")
    environment = {**os.environ, "KUBECONFIG": str(control_plane.kubeconfig)}
    environment |= {home: str(tmp_path / home.lower()) for home in homes}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [str(HELM), *arguments, f"--namespace={kubectl.namespace}"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=RELEASE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_a_release_is_upgraded_rolled_back_and_removed(
    quarters: tuple[Kubectl, NameProxy], helm: Helm, chart: Path
) -> None:
    kubectl, _ = quarters
    told = helm("install", "twofold", str(chart), "--skip-crds")
    assert "kubectl apply" in told
    password = _password(kubectl)
    assert password

    helm("upgrade", "twofold", str(chart), "--skip-crds", "--set=operator.logLevel=debug")
    assert "--log-level=debug" in _arguments(kubectl)
    assert _password(kubectl) == password, "it must outlive an upgrade: Valkey has it"

    helm("rollback", "twofold")
    assert "--log-level=info" in _arguments(kubectl)
    assert _password(kubectl) == password

    helm("uninstall", "twofold")
    left = kubectl.run("get", KINDS, "--selector=app.kubernetes.io/instance=twofold", "-o", "name")
    assert left == ""


def _arguments(kubectl: Kubectl) -> list[str]:
    deployment = kubectl.get("deployment", "twofold-operator")
    assert deployment is not None
    arguments: list[str] = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    return arguments


def _password(kubectl: Kubectl) -> str:
    (secret,) = kubectl.list("secret", "app.kubernetes.io/component=valkey")
    password: str = secret["data"]["password"]
    return password
