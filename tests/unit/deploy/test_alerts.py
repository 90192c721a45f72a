"""The alerts: each can be acted on, fires when it should, and only then."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from deploy.dashboards.alerts import ALERTS, RUNBOOKS, Alert

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "prometheus"
TESTS = sorted(FOLDER.glob("*.test.yaml"))
RUNBOOK_HEADINGS = re.findall(r"^## (\w+)$", (ROOT / RUNBOOKS).read_text(), re.MULTILINE)


def by_name(alert: Alert) -> str:
    return alert.name


@pytest.mark.parametrize("alert", ALERTS, ids=by_name)
def test_an_alert_has_a_runbook(alert: Alert) -> None:
    page, _, anchor = alert.runbook.partition("#")

    assert page == RUNBOOKS
    assert anchor in {heading.lower() for heading in RUNBOOK_HEADINGS}


def test_no_runbook_is_left_over() -> None:
    assert sorted(RUNBOOK_HEADINGS) == sorted(alert.name for alert in ALERTS)


@pytest.mark.parametrize("alert", ALERTS, ids=by_name)
def test_an_alert_is_tested_where_it_fires(alert: Alert) -> None:
    cases = [
        case
        for path in TESTS
        for group in yaml.safe_load(path.read_text())["tests"]
        for case in group["promql_expr_test"]
        if alert.name in case["expr"]
    ]

    assert any(case["exp_samples"] for case in cases)


@pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="no promtool: scripts/install-prometheus installs it",
)
@pytest.mark.parametrize(
    "command",
    [("check", "rules", "twofold.yaml"), ("test", "rules", *(path.name for path in TESTS))],
)
def test_promtool_finds_nothing_wrong(command: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["promtool", *command], cwd=FOLDER, capture_output=True, text=True, timeout=120
    )

    assert done.returncode == 0, done.stdout + done.stderr
