"""A pod template of the user's, merged over ours."""

from typing import Any

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
