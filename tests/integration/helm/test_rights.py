"""The chart's roles allow what the operator asks for, and nothing else."""

from itertools import product
from typing import Any

from twofold_operator.cluster_api.rights import Right, own_rights, service_rights

from .charts import needs_helm, rendered

pytestmark = needs_helm


def test_a_namespaced_role_is_the_table_of_rights() -> None:
    objects = rendered()

    assert _rights(objects, "Role", "t-twofold-operator") == service_rights()
    assert _rights(objects, "Role", "t-twofold-operator-lease") == own_rights()
    assert [one for one in objects if one["kind"].startswith("Cluster")] == []


def test_a_cluster_role_is_the_table_of_rights() -> None:
    objects = rendered("--set=watchAllNamespaces=true")

    assert _rights(objects, "ClusterRole", "demo-t-twofold-operator") == service_rights()


def _rights(objects: list[dict[str, Any]], kind: str, name: str) -> set[Right]:
    (role,) = (one for one in objects if (one["kind"], one["metadata"]["name"]) == (kind, name))
    return {
        Right(*right)
        for rule in role["rules"]
        for right in product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }
