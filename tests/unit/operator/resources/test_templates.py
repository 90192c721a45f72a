"""What of a user's pod template is refused by its field."""

from typing import Any

import pytest

from twofold_operator.resources import InvalidSpecError
from twofold_operator.resources.templates import check_template


@pytest.mark.parametrize(
    ("template", "field"),
    [
        ({"metadata": {"labels": ["a"]}}, "metadata.labels"),
        ({"metadata": {"labels": "a"}}, "metadata.labels"),
        ({"metadata": {"annotations": {"scrape": True}}}, "metadata.annotations[scrape]"),
        ({"spec": {"securityContext": "root"}}, "spec.securityContext"),
        ({"spec": {"containers": None}}, "spec.containers"),
        ({"spec": {"containers": ["worker"]}}, "spec.containers[0]"),
        ({"spec": {"initContainers": [{"name": 1}]}}, "spec.initContainers[0].name"),
        ({"spec": {"imagePullSecrets": ["regcred"]}}, "spec.imagePullSecrets[0]"),
        ({"spec": {"imagePullSecrets": "regcred"}}, "spec.imagePullSecrets"),
        ({"spec": {"topologySpreadConstraints": ["zone"]}}, "spec.topologySpreadConstraints[0]"),
        ({"spec": {"hostAliases": [{"hostnames": []}]}}, "spec.hostAliases[0].ip"),
    ],
)
def test_what_cannot_be_merged_is_refused_by_its_field(
    template: dict[str, Any], field: str
) -> None:
    assert _refused(template) == f"spec.decode.podTemplate.{field}"


@pytest.mark.parametrize(
    ("container", "field"),
    [
        ({"env": ["A=B"]}, "env[0]"),
        ({"env": "A=B"}, "env"),
        ({"env": {"A": "B"}}, "env"),
        ({"env": [{"name": "A", "value": "B"}, {"name": "N", "value": 1}]}, "env[1].value"),
        ({"volumeMounts": ["/x"]}, "volumeMounts[0]"),
        ({"volumeMounts": [{"name": "x", "mountPath": ["/x"]}]}, "volumeMounts[0].mountPath"),
        ({"ports": [8000]}, "ports[0]"),
        ({"ports": [{"containerPort": "8000"}]}, "ports[0].containerPort"),
        ({"securityContext": "root"}, "securityContext"),
    ],
)
@pytest.mark.parametrize("group", ["containers", "initContainers"])
def test_what_cannot_be_merged_of_a_container_is_refused_by_its_field(
    group: str, container: dict[str, Any], field: str
) -> None:
    template = {"spec": {group: [{"name": "worker"}, {"name": "beside", **container}]}}

    assert _refused(template) == f"spec.decode.podTemplate.spec.{group}[1].{field}"


@pytest.mark.parametrize(
    "template",
    [
        {"metadata": {"labels": None, "annotations": {"env": "prod", "old": None}}},
        {"spec": {"nodeSelector": {"env": "prod", "ports": "many"}}},
        {"spec": {"imagePullSecrets": None, "securityContext": None}},
        {"spec": {"containers": [{"name": "worker", "env": None, "securityContext": None}]}},
        {"spec": {"containers": [{"name": "worker", "ports": [{"containerPort": 1}]}]}},
        {"spec": {"containers": [{"name": "a", "env": [{"name": "A", "valueFrom": {}}]}]}},
    ],
)
def test_what_can_be_merged_is_let_through(template: dict[str, Any]) -> None:
    check_template(template, "spec.decode.podTemplate")


def _refused(template: dict[str, Any]) -> str:
    with pytest.raises(InvalidSpecError) as caught:
        check_template(template, "spec.decode.podTemplate")
    return caught.value.field
