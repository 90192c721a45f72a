"""The chart, as Helm renders it for a test."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm" / "twofold"
HELM = ROOT / ".venv" / "bin" / "helm"

needs_helm = pytest.mark.skipif(not HELM.exists(), reason="helm: scripts/install-helm has it")


def run_helm(
    *arguments: str | Path, values: Mapping[str, Any] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run Helm, whatever comes of it. *values* are those that ``--values=-`` reads."""
    return subprocess.run(
        [HELM, *arguments],
        input=json.dumps(values or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def template(
    *arguments: str, chart: Path = CHART, values: Mapping[str, Any] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Render the release ``t`` in the namespace ``demo``, if Helm does not refuse."""
    fixed = ("--namespace=demo", "--values=-")
    return run_helm("template", "t", chart, *fixed, *arguments, values=values)


def rendered(*arguments: str, values: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return all objects of the release."""
    return [one for one in yaml.safe_load_all(_told(template(*arguments, values=values))) if one]


def shown(
    name: str, *arguments: str, chart: Path = CHART, values: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the one object of the template *name*."""
    only = f"--show-only=templates/{name}"
    one: dict[str, Any] = yaml.safe_load(
        _told(template(only, *arguments, chart=chart, values=values))
    )
    return one


def _told(done: "subprocess.CompletedProcess[str]") -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout
