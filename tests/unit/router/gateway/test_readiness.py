"""When a router says that it is ready."""

from typing import Any

import msgspec
import pytest

from twofold_cluster.identity import Role
from twofold_cluster.worker import WorkerState
from twofold_router.gateway.readiness import ReadinessCheck, model_names
from twofold_router.settings import RouterSettings
from twofold_router.testing.workers import make_worker

P, D, B = (make_worker(role, role) for role in (Role.PREFILL, Role.DECODE, Role.BOTH))
DRAINING = msgspec.structs.replace(D, state=WorkerState.DRAINING)


def check(**settings: Any) -> ReadinessCheck:
    return ReadinessCheck(RouterSettings(service="s", **settings))


def test_it_needs_both_roles_at_first() -> None:
    seen = [check().check(workers, False) for workers in ([], [P], [D], [P, D], [B])]

    assert [each.ready for each in seen] == [False, False, False, True, True]
    assert seen[0].missing == ("decode worker", "prefill worker")
    assert [each.body()["status"] for each in seen[2:4]] == ["unready", "ready"]


def test_once_complete_it_stays_ready_without_prefill_workers() -> None:
    readiness = check()
    readiness.check([P, D], False)

    degraded = readiness.check([D], True)
    assert degraded.ready
    assert degraded.body() == {"status": "degraded", "missing": ("prefill worker",), "stale": True}
    assert not readiness.check([P], False).ready


def test_it_does_not_where_a_prefill_worker_is_a_must() -> None:
    readiness = check(on_no_prefill="fail")
    readiness.check([P, D], False)

    assert not readiness.check([D], False).ready


def test_without_disaggregation_decode_workers_are_enough() -> None:
    assert check(disaggregate=False).check([D], False).ready


@pytest.mark.parametrize("workers", [[P, DRAINING], [DRAINING]])
def test_a_draining_worker_does_not_count(workers: list[Any]) -> None:
    assert not check().check(workers, False).ready


def test_a_model_is_named_once() -> None:
    other = make_worker("o", Role.DECODE, model="a-model")

    assert model_names([P, other, D]) == ["a-model", "fake-model"]
