"""The chart as releases of Helm: installed, upgraded, rolled back and removed, without pods."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .control_plane import ControlPlane
from .kubectl import Kubectl
from .name_proxy import NameProxy
from .operators import HELM, REPOSITORY
from .services import sim

RELEASE_SECONDS = 300.0
KINDS = "deployment,statefulset,service,configmap,role,rolebinding,serviceaccount,networkpolicy"
NEW_FIELD = "allowedOrigins"
ORIGINS = ["https://a.example"]
Helm = Callable[..., str]


@pytest.fixture
def chart(tmp_path: Path) -> Path:
    return _copied(tmp_path / "chart")


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """The chart as a version before would have been: other labels and images, a field less."""
    copied = _copied(tmp_path / "older", version="0.0.9", appVersion="0.0.9")
    path = copied / "crds" / "llmservices.yaml"
    definition = yaml.safe_load(path.read_text())
    (version,) = definition["spec"]["versions"]
    fields = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    del fields["gateway"]["properties"][NEW_FIELD]
    path.write_text(yaml.safe_dump(definition))
    return copied


def _copied(folder: Path, **changes: str) -> Path:
    """Copy the chart, without its demand on the version: what it renders is older than the rules
    are."""
    shutil.copytree(REPOSITORY / "helm" / "twofold", folder)
    about = _about(folder)
    del about["kubeVersion"]
    (folder / "Chart.yaml").write_text(yaml.safe_dump(about | changes))
    return folder


def _about(chart: Path) -> dict[str, Any]:
    about: dict[str, Any] = yaml.safe_load((chart / "Chart.yaml").read_text())
    return about


@pytest.fixture
def definitions(local_definer: Kubectl) -> Iterator[Callable[[Path], str]]:
    """Applies the CRDs of a chart as docs/kubernetes.md has it; those of this one stay."""

    def apply(chart: Path) -> str:
        told = ("--server-side", "--force-conflicts")
        return local_definer.run("apply", *told, "-f", str(chart / "crds"))

    yield apply
    apply(REPOSITORY / "helm" / "twofold")


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
    quarters: tuple[Kubectl, NameProxy],
    helm: Helm,
    older: Path,
    chart: Path,
    definitions: Callable[[Path], str],
) -> None:
    kubectl, _ = quarters
    definitions(older)
    told = helm("install", "twofold", str(older), "--skip-crds")
    assert "kubectl apply" in told
    password = _password(kubectl)
    assert password
    # A field that a definition has not is dropped; a new definition is used a moment later.
    kubectl.wait_for("the older definition holds", lambda: not _origins(kubectl))
    before = kubectl.get("llm", "sim")

    assert "llmservices" in definitions(chart)
    helm("upgrade", "twofold", str(chart), "--skip-crds", "--set=operator.logLevel=debug")
    assert "--log-level=debug" in _arguments(kubectl)
    assert f"--router-image=twofold-router:{_about(chart)['appVersion']}" in _arguments(kubectl)
    assert _password(kubectl) == password, "it must outlive an upgrade: Valkey has it"
    assert kubectl.get("llm", "sim") == before
    kubectl.wait_for("the field is kept", lambda: _origins(kubectl) == ORIGINS)

    helm("rollback", "twofold")
    assert "--log-level=info" in _arguments(kubectl)
    assert "--router-image=twofold-router:0.0.9" in _arguments(kubectl)
    assert _password(kubectl) == password
    after = kubectl.get("llm", "sim")
    assert before is not None
    assert after is not None
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"]["gateway"][NEW_FIELD] == ORIGINS, "no CRD is taken back"

    helm("uninstall", "twofold")
    left = kubectl.run("get", KINDS, "--selector=app.kubernetes.io/instance=twofold", "-o", "name")
    assert left == ""
    assert kubectl.get("llm", "sim") == after


def test_a_release_goes_between_one_operator_and_two(
    quarters: tuple[Kubectl, NameProxy], helm: Helm, chart: Path
) -> None:
    kubectl, _ = quarters
    command = ("twofold", str(chart), "--skip-crds")
    helm("install", *command)

    for replicas in (2, 1):
        helm("upgrade", *command, f"--set=operator.replicas={replicas}")
        assert _replicas(kubectl) == replicas
    for replicas in (2, 1):
        helm("rollback", "twofold")
        assert _replicas(kubectl) == replicas


def _replicas(kubectl: Kubectl) -> int:
    deployment = kubectl.get("deployment", "twofold-operator")
    assert deployment is not None
    replicas: int = deployment["spec"]["replicas"]
    return replicas


def _origins(kubectl: Kubectl) -> list[str]:
    """Apply a service with the field that the older definition has not; return what is kept."""
    kubectl.apply(sim(gateway={NEW_FIELD: ORIGINS}), options=("--validate=false",))
    service = kubectl.get("llm", "sim")
    assert service is not None
    kept: list[str] = service["spec"].get("gateway", {}).get(NEW_FIELD, [])
    return kept


def _arguments(kubectl: Kubectl) -> list[str]:
    deployment = kubectl.get("deployment", "twofold-operator")
    assert deployment is not None
    arguments: list[str] = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    return arguments


def _password(kubectl: Kubectl) -> str:
    (secret,) = kubectl.list("secret", "app.kubernetes.io/component=valkey")
    password: str = secret["data"]["password"]
    return password
