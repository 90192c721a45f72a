"""A pod template of the user's, merged over ours."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold_operator.planning.merging import merged
from twofold_operator.planning.testing import World
from twofold_operator.resources import MERGE_KEYS, InvalidSpecError, parse_service

OURS: dict[str, Any] = {
    "nodeSelector": {"a": "1"},
    "containers": [
        {
            "name": "worker",
            "image": "ours",
            "env": [{"name": "HOME", "value": "/scratch"}],
            "command": ["python"],
        }
    ],
}


def test_items_of_one_name_are_merged_and_others_added() -> None:
    theirs = {
        "containers": [
            {"name": "worker", "env": [{"name": "NCCL_DEBUG", "value": "INFO"}]},
            {"name": "sidecar", "image": "theirs"},
        ]
    }

    worker, sidecar = merged(OURS, theirs)["containers"]

    assert worker["image"] == "ours"
    assert [variable["name"] for variable in worker["env"]] == ["HOME", "NCCL_DEBUG"]
    assert sidecar["image"] == "theirs"


def test_a_list_without_names_is_replaced() -> None:
    theirs = {"containers": [{"name": "worker", "command": ["sh", "-c"]}]}

    assert merged(OURS, theirs)["containers"][0]["command"] == ["sh", "-c"]


def test_null_takes_away() -> None:
    assert "nodeSelector" not in merged(OURS, {"nodeSelector": None})


def test_ours_is_not_changed() -> None:
    merged(OURS, {"nodeSelector": {"b": "2"}, "containers": [{"name": "worker", "tty": True}]})

    assert OURS["nodeSelector"] == {"a": "1"}
    assert "tty" not in OURS["containers"][0]


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        (
            {"volumes": [{"name": "scratch", "emptyDir": {}}]},
            {"volumes": [{"name": "scratch", "persistentVolumeClaim": {"claimName": "c"}}]},
            {"volumes": [{"name": "scratch", "persistentVolumeClaim": {"claimName": "c"}}]},
        ),
        (
            {"volumes": [{"name": "dshm", "emptyDir": {"medium": "Memory"}}]},
            {"volumes": [{"name": "dshm", "emptyDir": {"sizeLimit": "8Gi"}}]},
            {"volumes": [{"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}]},
        ),
        (
            {"livenessProbe": {"tcpSocket": {"port": 6380}, "periodSeconds": 10}},
            {"livenessProbe": {"httpGet": {"path": "/health", "port": 8001}}},
            {"livenessProbe": {"httpGet": {"path": "/health", "port": 8001}, "periodSeconds": 10}},
        ),
        (
            {"livenessProbe": {"tcpSocket": {"port": 6380}, "periodSeconds": 10}},
            {"livenessProbe": {"periodSeconds": 30}},
            {"livenessProbe": {"tcpSocket": {"port": 6380}, "periodSeconds": 30}},
        ),
        (
            {"lifecycle": {"preStop": {"exec": {"command": ["drain"]}}}},
            {"lifecycle": {"preStop": {"sleep": {"seconds": 5}}}},
            {"lifecycle": {"preStop": {"sleep": {"seconds": 5}}}},
        ),
        (
            {"env": [{"name": "HF_HOME", "value": "/scratch"}]},
            {"env": [{"name": "HF_HOME", "valueFrom": {"fieldRef": {"fieldPath": "a"}}}]},
            {"env": [{"name": "HF_HOME", "valueFrom": {"fieldRef": {"fieldPath": "a"}}}]},
        ),
        (
            {"env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "a"}}}]},
            {"env": [{"name": "NODE", "value": "here"}]},
            {"env": [{"name": "NODE", "value": "here"}]},
        ),
        (
            {"env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "a"}}}]},
            {"env": [{"name": "NODE", "valueFrom": {"configMapKeyRef": {"name": "m"}}}]},
            {"env": [{"name": "NODE", "valueFrom": {"configMapKeyRef": {"name": "m"}}}]},
        ),
    ],
)
def test_what_is_of_one_kind_is_of_theirs(
    ours: dict[str, Any], theirs: dict[str, Any], found: dict[str, Any]
) -> None:
    assert merged(ours, theirs) == found


_SCALARS = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "worker", "tmp"])
_ANYTHING = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from([*MERGE_KEYS, *MERGE_KEYS.values(), "value", "securityContext"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def _parts(*told: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(told, _ANYTHING))


_CONTAINERS = st.lists(
    st.builds(
        lambda name, told: {"name": name, **told},
        st.sampled_from(["worker", "router", "beside"]),
        _parts("env", "ports", "volumeMounts", "securityContext", "resources"),
    ),
    max_size=2,
)
_TEMPLATES = st.fixed_dictionaries(
    {},
    optional={
        "metadata": _parts("labels", "annotations", "name"),
        "spec": st.builds(
            lambda told, containers: {**told, "containers": containers},
            _parts(*MERGE_KEYS, "securityContext", "nodeSelector", "tolerations"),
            _CONTAINERS,
        ),
    },
)


@settings(deadline=None)
@given(_TEMPLATES)
def test_whatever_a_template_holds_is_merged_or_refused(template: dict[str, Any]) -> None:
    spec: dict[str, Any] = {"model": {"source": "hf://acme/small"}, "transfer": {"rdma": True}}
    for part in ("prefill", "decode", "gateway"):
        spec[part] = {"podTemplate": template}
    world = World(spec | {"ray": {"headPodTemplate": template}})
    try:
        parse_service(world.service)
    except InvalidSpecError:
        return

    world.settle()
    assert world.plan() == []
