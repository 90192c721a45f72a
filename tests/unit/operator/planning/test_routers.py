"""How far the routers' Deployment is, by what Kubernetes says of it."""

from typing import Any

import pytest

from twofold_operator.planning.routers import are_available, are_stuck, what_is_left

DONE = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
AVAILABLE = {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}
OVERDUE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}


def deployment(**status: Any) -> dict[str, Any]:
    return {"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": {**DONE, **status}}


def test_nothing_is_left_when_all_routers_are_new_and_ready() -> None:
    assert what_is_left(deployment()) is None


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ({"observedGeneration": 1}, "has not begun"),
        ({"replicas": 1, "updatedReplicas": 1}, "1 of 2 routers are of the newest making"),
        ({"replicas": 3}, "1 routers of an older making"),
        ({"availableReplicas": 1}, "1 of 2 routers are ready"),
    ],
)
def test_what_is_left_is_named(status: dict[str, Any], message: str) -> None:
    assert message in (what_is_left(deployment(**status)) or "")


def test_without_a_status_all_is_left() -> None:
    assert what_is_left(None)
    assert what_is_left({"metadata": {"generation": 1}, "spec": {}})


def test_a_router_that_is_lost_later_is_no_rollout() -> None:
    assert what_is_left(deployment(availableReplicas=1, conditions=[AVAILABLE])) is None


def test_a_rollout_is_stuck_when_kubernetes_says_so_of_this_spec() -> None:
    assert are_stuck(deployment(conditions=[OVERDUE]))
    assert not are_stuck(deployment(conditions=[AVAILABLE]))
    assert not are_stuck(deployment(conditions=[OVERDUE], observedGeneration=1))
    assert not are_stuck(None)


def test_one_router_is_enough_to_be_available() -> None:
    assert are_available(deployment(availableReplicas=1))
    assert not are_available(deployment(availableReplicas=0))
    assert not are_available(None)
