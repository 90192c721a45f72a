"""Whether an object is as we applied it."""

from typing import Any

import pytest

from twofold_operator.planning.comparing import is_applied, signed


def manifest(**spec: Any) -> dict[str, Any]:
    return {"kind": "Deployment", "metadata": {"name": "a"}, "spec": spec}


@pytest.mark.parametrize(
    ("wanted", "observed"),
    [
        ({"replicas": 1}, {"replicas": 1, "revisionHistoryLimit": 10}),
        ({"limits": {"cpu": "1000m"}}, {"limits": {"cpu": "1"}}),
        ({"limits": {"memory": "1024Mi"}}, {"limits": {"memory": "1Gi"}}),
        ({"emptyDir": {}}, {}),
        ({"replicas": 0, "hostNetwork": False}, {}),
        (
            {"containers": [{"name": "a", "image": "b"}]},
            {"containers": [{"name": "injected"}, {"name": "a", "image": "b", "tty": False}]},
        ),
        ({"args": ["a", "b"]}, {"args": ["a", "b"]}),
    ],
)
def test_what_the_server_adds_or_writes_in_its_own_way_is_no_difference(
    wanted: dict[str, Any], observed: dict[str, Any]
) -> None:
    assert is_applied(manifest(**wanted), manifest(**observed))


@pytest.mark.parametrize(
    ("wanted", "observed"),
    [
        ({"replicas": 1}, {"replicas": 2}),
        ({"replicas": 1}, {}),
        ({"limits": {"cpu": "1"}}, {"limits": {"cpu": "2"}}),
        ({"value": "1"}, {"value": "1000m"}),
        ({"args": ["a"]}, {"args": ["a", "b"]}),
        ({"args": ["a", "b"]}, {"args": ["b", "a"]}),
        (
            {"containers": [{"name": "a", "image": "b"}]},
            {"containers": [{"name": "a", "image": "c"}]},
        ),
        ({"containers": [{"name": "a"}]}, {"containers": [{"name": "b"}]}),
    ],
)
def test_a_foreign_change_is_a_difference(wanted: dict[str, Any], observed: dict[str, Any]) -> None:
    assert not is_applied(manifest(**wanted), manifest(**observed))


def test_a_field_that_is_wanted_no_longer_is_a_difference() -> None:
    before = signed(manifest(replicas=1, paused=True))

    assert not is_applied(signed(manifest(replicas=1)), before)


def test_a_condition_of_applying_is_not_compared() -> None:
    wanted = manifest()
    wanted["metadata"]["resourceVersion"] = "7"
    later = signed(wanted)
    later["metadata"] = {**later["metadata"], "resourceVersion": "9"}

    assert is_applied(signed(wanted), later)


def test_an_object_that_is_not_there_is_a_difference() -> None:
    assert not is_applied(manifest(), None)
