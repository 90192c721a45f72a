"""The chart's roles allow what the operator asks for, and nothing else."""

import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from twofold_operator.cluster_api.rights import Right, own_rights, service_rights

ROOT = Path(__file__).parents[3]
HELM = ROOT / ".venv" / "bin" / "helm"
pytestmark = pytest.mark.skipif(not HELM.exists(), reason="helm: scripts/install-helm has it")


def test_a_namespaced_role_is_the_table_of_rights() -> None:
    rendered = _render()

    assert _rights(rendered, "Role", "t-twofold-operator") == service_rights()
    assert _rights(rendered, "Role", "t-twofold-operator-lease") == own_rights()
    assert [one for one in rendered if one["kind"].startswith("Cluster")] == []


def test_a_cluster_role_is_the_table_of_rights() -> None:
    rendered = _render("--set=watchAllNamespaces=true")

    assert _rights(rendered, "ClusterRole", "demo-t-twofold-operator") == service_rights()


def _render(*arguments: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [HELM, "template", "t", ROOT / "helm" / "twofold", "--namespace=demo", *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def _rights(rendered: list[dict[str, Any]], kind: str, name: str) -> set[Right]:
    (role,) = (one for one in rendered if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return {
        Right(*right)
        for rule in role["rules"]
        for right in product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }
