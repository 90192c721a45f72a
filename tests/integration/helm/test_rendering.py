"""What the chart renders is what Kubernetes takes, whatever the values."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate import validate  # type: ignore[import-untyped]

from twofold_operator.planning.names import POOLS_PORT
from twofold_operator.planning.testing import World

from .charts import CHART, needs_helm, rendered, run_helm, shown, template
from .combinations import COMBINATIONS, leaves, nested

pytestmark = needs_helm

MONITORING = tuple(
    f"--api-versions=monitoring.coreos.com/v1/{kind}"
    for kind in ("ServiceMonitor", "PrometheusRule")
)

OURS = ("serving.twofold.dev/", "monitoring.coreos.com/")
"""Kinds that are no part of Kubernetes."""

NAME_LIMIT = 40
"""Characters of an LLMService's name, by a rule of its CRD."""


@pytest.mark.parametrize("name", COMBINATIONS)
@pytest.mark.parametrize("version", ["1.29", "1.36"])
def test_every_object_fits_its_schema(name: str, version: str) -> None:
    objects = [one for one in yaml.safe_load_all(_rendered(name, *MONITORING)) if one]

    assert objects
    for one in objects:
        if not one["apiVersion"].startswith(OURS):
            validate(one, version, strict=True)


@pytest.mark.parametrize("name", COMBINATIONS)
def test_the_linter_finds_nothing_wrong(name: str) -> None:
    done = run_helm("lint", "--strict", CHART, "--values=-", values=nested(COMBINATIONS[name]))

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_value_is_changed_somewhere() -> None:
    defaults = leaves(yaml.safe_load((CHART / "values.yaml").read_text()))
    changed = {
        path
        for values in COMBINATIONS.values()
        for path, value in leaves(nested(values)).items()
        if defaults.get(path) != value
    }

    # An empty mapping or list is filled by paths below it.
    missing = {p for p in defaults if not any(f"{c}.".startswith(f"{p}.") for c in changed)}
    assert missing == set()


@pytest.mark.parametrize("name", COMBINATIONS)
def test_a_value_is_found_again_in_what_is_rendered(name: str) -> None:
    text = _rendered(name, *MONITORING)
    told = {each for value in leaves(nested(COMBINATIONS[name])).values() for each in _texts(value)}

    assert {each for each in told if each not in text} == set()


def test_the_operator_is_told_whom_to_watch_and_whom_to_let_in() -> None:
    deployment = shown("operator/deployment.yaml", values=nested(COMBINATIONS["some-namespaces"]))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    told = {"--namespace=team-a", "--namespace=team-b", "--scraping-namespace=prometheuses"}

    assert told | {"--no-network-policies"} <= set(container["args"])


def test_operators_that_are_not_ready_keep_no_node_from_being_drained() -> None:
    budget = shown("operator/pod-disruption-budget.yaml", "--set=operator.replicas=2")["spec"]

    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_what_needs_the_prometheus_operator_is_left_out_where_its_api_is_not_served() -> None:
    kinds = {
        served: {one["kind"] for one in yaml.safe_load_all(_rendered("watched", *served)) if one}
        for served in ((), MONITORING)
    }

    assert kinds[MONITORING] - kinds[()] == {"ServiceMonitor", "PrometheusRule"}


def test_the_service_monitor_finds_the_operators_metrics() -> None:
    values = nested(COMBINATIONS["watched"])
    monitor = shown("monitoring/service-monitor.yaml", *MONITORING, values=values)["spec"]
    service, deployment = (
        shown(f"operator/{name}.yaml", values=values) for name in ("service", "deployment")
    )
    (endpoint,) = monitor["endpoints"]
    (port,) = (each for each in service["spec"]["ports"] if each["name"] == endpoint["port"])
    (container,) = deployment["spec"]["template"]["spec"]["containers"]

    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert port["targetPort"] in {each["name"] for each in container["ports"]}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="scripts/install-prometheus has it")
def test_the_prometheus_rule_holds_rules_that_prometheus_takes(tmp_path: Path) -> None:
    rule = shown(
        "monitoring/prometheus-rule.yaml", *MONITORING, values=nested(COMBINATIONS["watched"])
    )
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    command = ["promtool", "check", "rules", str(tmp_path / "rules.yaml")]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr


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
    assert template(f"--set={values}").returncode != 0


def test_an_installation_without_redis_is_refused() -> None:
    assert "no Redis" in template("--set=valkey.enabled=false").stderr


@pytest.mark.parametrize("other", ["redis.existingSecret.name=mine", "redis.url=redis://h:6379"])
def test_valkey_stays_beside_another_redis_while_it_is_to_be_kept(other: str) -> None:
    moved, kept = (
        rendered(f"--set={other}", f"--set=valkey.keep={keep}") for keep in ("false", "true")
    )
    environments = [_operators_environment(objects) for objects in (moved, kept)]

    assert _parts_of_valkey(moved) == set()
    assert _parts_of_valkey(kept) == _parts_of_valkey(rendered())
    assert environments[0] == environments[1]


@pytest.mark.parametrize("length", [10, 36, 40])
def test_the_service_of_helm_test_has_a_name_that_its_crd_takes(length: int) -> None:
    """Also for the longest release; and where it is cut no hyphen is left before the suffix."""
    fullname = f"{'a' * 34}-{'b' * 18}"[:length]
    chat, service = (
        shown(f"tests/{name}.yaml", f"--set=fullnameOverride={fullname}")
        for name in ("chat", "service")
    )
    name = service["metadata"]["name"]
    environment = {each["name"]: each["value"] for each in chat["spec"]["containers"][0]["env"]}

    assert len(name) <= NAME_LIMIT
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*-test", name)
    assert environment["CHAT_URL"].startswith(f"http://{name}.demo.svc/")


def test_the_pods_of_helm_test_go_where_the_operator_may() -> None:
    values = nested(COMBINATIONS["placed"])
    placed = {"nodeSelector", "tolerations", "affinity", "priorityClassName", "runtimeClassName"}
    chat, service = (shown(f"tests/{name}.yaml", values=values) for name in ("chat", "service"))
    world = World(service["spec"])
    world.settle()
    cluster = next(one for (kind, _), one in world.objects.items() if kind == "RayCluster")
    router = next(one for (kind, _), one in world.objects.items() if kind == "Deployment")
    groups = (cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"])
    templates = [router["spec"]["template"], *(each["template"] for each in groups)]

    assert len(templates) == 4
    for pod in (chat, *templates):
        found = {name: pod["spec"].get(name) for name in placed}
        assert found == {name: values["operator"][name] for name in placed}


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
    operator = shown("operator/deployment.yaml", "--set=nameOverride=x,fullnameOverride=y")
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


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in *value*, without names of fields."""
    below = value.values() if isinstance(value, dict) else value
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in below:
            yield from _texts(each)


def _alerts(*arguments: str) -> list[dict[str, str]]:
    """Return the annotations of all alerts."""
    rule = shown(
        "monitoring/prometheus-rule.yaml",
        "--api-versions=monitoring.coreos.com/v1/PrometheusRule",
        "--set=monitoring.prometheusRule.enabled=true",
        *arguments,
    )
    rules = [each for group in rule["spec"]["groups"] for each in group["rules"]]
    return [each["annotations"] for each in rules if "alert" in each]


def _parts_of_valkey(objects: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Return the kinds and names of all that Valkey consists of."""
    component = "app.kubernetes.io/component"
    return {
        (one["kind"], one["metadata"]["name"])
        for one in objects
        if one["metadata"]["labels"].get(component) == "valkey"
    }


def _operators_environment(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    (deployment,) = (one for one in objects if one["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    environment: list[dict[str, Any]] = container["env"]
    return environment


def _valkey(*arguments: str, chart: Path = CHART) -> dict[str, Any]:
    """Return the StatefulSet."""
    return shown("valkey/stateful-set.yaml", *arguments, chart=chart)


@cache
def _rendered(name: str, *arguments: str) -> str:
    """Return what one of the combinations renders."""
    done = template(*arguments, values=nested(COMBINATIONS[name]))
    assert done.returncode == 0, done.stderr
    return done.stdout
