"""When a router says that it is ready."""

from typing import Any

import msgspec
import pytest

from twofold_cluster.identity import Role, WorkerId
from twofold_cluster.worker import WorkerState
from twofold_router.gateway.readiness import ReadinessCheck, model_card
from twofold_router.settings import RouterSettings
from twofold_router.static_workers import UNKNOWN_MODEL_TOKENS
from twofold_router.testing.workers import make_worker

P, D, B = (make_worker(role, role) for role in (Role.PREFILL, Role.DECODE, Role.BOTH))
DRAINING = msgspec.structs.replace(D, state=WorkerState.DRAINING)
STANDBY = msgspec.structs.replace(D, state=WorkerState.STANDBY)


def check(**settings: Any) -> ReadinessCheck:
    return ReadinessCheck(RouterSettings(service="s", **settings))


def test_where_requests_fail_without_prefill_it_needs_both_roles_at_first() -> None:
    seen = [
        check(on_no_prefill="fail").check(workers, False) for workers in ([], [P], [D], [P, D], [B])
    ]

    assert [each.ready for each in seen] == [False, False, False, True, True]
    assert seen[0].missing == ("decode worker", "prefill worker")
    assert [each.body()["status"] for each in seen[2:4]] == ["unready", "ready"]


def test_where_decode_workers_serve_alone_one_of_them_is_enough_at_first() -> None:
    seen = [check().check(workers, False) for workers in ([], [P], [D], [P, D])]

    assert [each.status for each in seen] == ["unready", "unready", "degraded", "ready"]
    assert seen[2].ready
    assert seen[2].missing == ("prefill worker",)


@pytest.mark.parametrize("on_no_prefill", ["aggregate", "fail"])
def test_once_complete_it_stays_ready_and_says_what_is_missing(on_no_prefill: str) -> None:
    readiness = check(on_no_prefill=on_no_prefill)
    readiness.check([P, D], False)

    degraded, empty = readiness.check([D], True), readiness.check([], False)

    assert degraded.ready
    assert degraded.body() == {"status": "degraded", "missing": ("prefill worker",), "stale": True}
    assert empty.ready
    assert empty.missing == ("decode worker", "prefill worker")


def test_without_disaggregation_decode_workers_are_enough() -> None:
    assert check(disaggregate=False).check([D], False).ready


@pytest.mark.parametrize("workers", [[P, DRAINING], [DRAINING], [P, STANDBY]])
def test_a_worker_that_takes_nothing_new_does_not_count(workers: list[Any]) -> None:
    assert not check().check(workers, False).ready


def test_one_that_is_leaving_is_not_ready_whatever_it_has() -> None:
    readiness = check()
    readiness.check([P, D], False)
    readiness.is_leaving = True

    leaving = readiness.check([P, D], False)

    assert not leaving.ready
    assert leaving.body() == {"status": "leaving", "missing": (), "stale": False}


def test_it_tells_what_is_wrong_with_workers_that_do_not_serve() -> None:
    readiness = check()
    readiness.failing = {WorkerId("w"): "/health answered 503"}

    assert readiness.check([P], False).body()["failing"] == {"w": "/health answered 503"}


def test_an_adapter_names_its_model_as_its_parent() -> None:
    assert model_card("m", "m", 1, [])["parent"] is None
    assert model_card("a", "m", 1, [])["parent"] == "m"


def test_the_root_is_the_model_behind_a_name() -> None:
    assert [model_card(name, "m", 1, [])["root"] for name in ("m", "a")] == ["m", "m"]


@pytest.mark.parametrize(
    ("lengths", "told"),
    [((4096, 8192), 4096), ((8192,), 8192), ((4096, UNKNOWN_MODEL_TOKENS), None), ((), None)],
)
def test_a_model_takes_as_much_as_the_least_of_its_workers(
    lengths: tuple[int, ...], told: int | None
) -> None:
    named = make_worker("w", Role.BOTH, model="m", adapters=("a",))
    other = make_worker("w", Role.BOTH, model="other")
    workers = [msgspec.structs.replace(named, max_model_tokens=length) for length in lengths]

    for name in ("m", "a"):
        card = model_card(
            name, "m", 1, [*workers, msgspec.structs.replace(other, max_model_tokens=1)]
        )

        assert card.get("max_model_len") == told
