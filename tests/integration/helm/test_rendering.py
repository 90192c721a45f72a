"""What the chart renders is what Kubernetes takes, whatever the values."""

import subprocess
from pathlib import Path

import pytest
import yaml
from kubernetes_validate import validate  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[3]
HELM = ROOT / ".venv" / "bin" / "helm"
pytestmark = pytest.mark.skipif(not HELM.exists(), reason="helm: scripts/install-helm has it")

OURS = ("serving.twofold.dev/", "monitoring.coreos.com/")
"""Kinds that are no part of Kubernetes."""


@pytest.mark.parametrize(
    "values",
    [
        "",
        "watchAllNamespaces=true,rbac.userRoles=true,networkPolicy.enabled=false",
        "operator.replicas=2,valkey.persistence.enabled=true,images.pullSecrets={regcred}",
        "redis.url=redis://redis:6379,monitoring.dashboards.enabled=true",
        "redis.existingSecret.name=mine,serviceAccount.create=false,test.enabled=false",
        "watchNamespaces={a,b},rbac.create=false,services.networkPolicies=false",
        "monitoring.serviceMonitor.enabled=true,monitoring.prometheusRule.enabled=true",
    ],
)
@pytest.mark.parametrize("version", ["1.29", "1.36"])
def test_every_object_fits_its_schema(values: str, version: str) -> None:
    done = _template(f"--set={values}")
    rendered = [one for one in yaml.safe_load_all(done.stdout) if one]

    assert done.returncode == 0, done.stderr
    assert rendered
    for one in rendered:
        if not one["apiVersion"].startswith(OURS):
            validate(one, version, strict=True)


@pytest.mark.parametrize(
    "values",
    ["operator.nonsense=1", "redis.url=redis://:pw@h:6379", "operator.replicas=0", "x=1"],
)
def test_a_bad_value_is_refused(values: str) -> None:
    assert _template(f"--set={values}").returncode != 0


def test_an_installation_without_redis_is_refused() -> None:
    assert "no Redis" in _template("--set=valkey.enabled=false").stderr


def _template(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [HELM, "template", "t", ROOT / "helm" / "twofold", "--namespace=demo", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
