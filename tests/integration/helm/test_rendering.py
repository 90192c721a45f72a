"""What the chart renders is what Kubernetes takes, whatever the values."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate import validate  # type: ignore[import-untyped]

from twofold_operator.planning.names import POOLS_PORT
from twofold_operator.planning.testing import World

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm" / "twofold"
HELM = ROOT / ".venv" / "bin" / "helm"
pytestmark = pytest.mark.skipif(not HELM.exists(), reason="helm: scripts/install-helm has it")

OURS = ("serving.twofold.dev/", "monitoring.coreos.com/")
"""Kinds that are no part of Kubernetes."""

NAME_LIMIT = 40
"""Characters of an LLMService's name, by a rule of its CRD."""


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
    [
        "operator.nonsense=1",
        "monitoring.prometheusRule.runbookBaseUrl=docs",
        "redis.url=redis://:pw@h:6379",
        "operator.replicas=0",
        "x=1",
    ],
)
def test_a_bad_value_is_refused(values: str) -> None:
    assert _template(f"--set={values}").returncode != 0


def test_an_installation_without_redis_is_refused() -> None:
    assert "no Redis" in _template("--set=valkey.enabled=false").stderr


@pytest.mark.parametrize("length", [10, 36, 40])
def test_the_service_of_helm_test_has_a_name_that_its_crd_takes(length: int) -> None:
    """Also for the longest release; and where it is cut no hyphen is left before the suffix."""
    fullname = f"{'a' * 34}-{'b' * 18}"[:length]
    chat, service = (
        _shown(f"tests/{name}.yaml", f"--set=fullnameOverride={fullname}")
        for name in ("chat", "service")
    )
    name = service["metadata"]["name"]
    environment = {each["name"]: each["value"] for each in chat["spec"]["containers"][0]["env"]}

    assert len(name) <= NAME_LIMIT
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*-test", name)
    assert environment["CHAT_URL"].startswith(f"http://{name}.demo.svc/")


def test_alerts_name_their_runbook_and_have_a_url_of_it_where_the_values_know_one() -> None:
    base = "https://git.example/twofold/blob/main"
    without, told = _alerts(), _alerts(f"--set=monitoring.prometheusRule.runbookBaseUrl={base}/")
    page = re.compile(r"docs/runbooks\.md#twofold\w+")

    assert without
    assert all(page.fullmatch(each["runbook"]) for each in without)
    assert told == [{**each, "runbook_url": f"{base}/{each['runbook']}"} for each in without]


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """The chart as it will be released next, if nothing but its version changes."""
    chart = tmp_path / "twofold"
    shutil.copytree(CHART, chart)
    about = yaml.safe_load((chart / "Chart.yaml").read_text())
    about |= {"version": "9.9.9", "appVersion": "9.9.9"}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(about))
    return chart


def test_another_version_of_the_chart_does_not_restart_valkey(next_version: Path) -> None:
    now, later = _valkey(), _valkey(chart=next_version)

    assert later["metadata"]["labels"] != now["metadata"]["labels"]
    assert later["spec"] == now["spec"]


@pytest.mark.parametrize("ray", [{}, {"ray": {"address": "ray:6379"}}], ids=["own", "existing"])
def test_pool_managers_let_the_operator_in_by_the_labels_that_it_has(ray: dict[str, Any]) -> None:
    operator = _shown("operator/deployment.yaml", "--set=nameOverride=x,fullnameOverride=y")
    labels = operator["spec"]["template"]["metadata"]["labels"]
    world = World({"model": {"source": "hf://a/b"}, "prefill": {}, "decode": {}, **ray})
    world.settle()
    policies = [one["spec"] for (kind, _), one in world.objects.items() if kind == "NetworkPolicy"]

    peers = [
        peer["podSelector"]["matchLabels"]
        for policy in policies
        for rule in policy["ingress"]
        if rule.get("ports") == [{"port": POOLS_PORT, "protocol": "TCP"}]
        for peer in rule["from"]
    ]
    assert len(peers) == len(policies)
    assert all(selected.items() <= labels.items() for selected in peers)


def test_another_configuration_restarts_valkey() -> None:
    now, later = _valkey(), _valkey("--set=valkey.maxMemory=512mb")

    assert later["spec"]["template"] != now["spec"]["template"]


def _alerts(*arguments: str) -> list[dict[str, str]]:
    """Return the annotations of all alerts."""
    rule = _shown(
        "monitoring/prometheus-rule.yaml",
        "--api-versions=monitoring.coreos.com/v1/PrometheusRule",
        "--set=monitoring.prometheusRule.enabled=true",
        *arguments,
    )
    rules = [each for group in rule["spec"]["groups"] for each in group["rules"]]
    return [each["annotations"] for each in rules if "alert" in each]


def _valkey(*arguments: str, chart: Path = CHART) -> dict[str, Any]:
    """Return the StatefulSet."""
    return _shown("valkey/stateful-set.yaml", *arguments, chart=chart)


def _shown(template: str, *arguments: str, chart: Path = CHART) -> dict[str, Any]:
    """Return the one object of *template*."""
    only = f"--show-only=templates/{template}"
    rendered: dict[str, Any] = yaml.safe_load(_template(only, *arguments, chart=chart).stdout)
    return rendered


def _template(*arguments: str, chart: Path = CHART) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [HELM, "template", "t", chart, "--namespace=demo", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
