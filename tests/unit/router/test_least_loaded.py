"""The least-loaded policy, example by example; its invariants are in test_placement_machine."""

from typing import Any

import msgspec
import pytest

from twofold_cluster.errors import Fault
from twofold_cluster.identity import Role, WorkerId
from twofold_cluster.worker import Load, Worker, WorkerState
from twofold_router.placement import (
    Dispatch,
    LeastLoaded,
    Mode,
    PlacementRequest,
    PlacementSettings,
    Reason,
    Refuse,
)
from twofold_router.testing import MODEL, make_worker

P1 = make_worker("p1", Role.PREFILL)
P2 = make_worker("p2", Role.PREFILL)
D1 = make_worker("d1", Role.DECODE)
D2 = make_worker("d2", Role.DECODE)


def placement(*workers: Worker, **settings: Any) -> LeastLoaded:
    made = LeastLoaded(PlacementSettings(**settings))
    made.set_workers(workers, 0.0)
    return made


def request(request_id: str = "r", **changes: Any) -> PlacementRequest:
    values: dict[str, Any] = {"model": MODEL, "prompt_bytes": 10, "separable": True}
    values |= {"arrived_at": 0.0, "deadline_at": 600.0} | changes
    return PlacementRequest(request_id, **values)


def dispatch(placement: LeastLoaded, request: PlacementRequest) -> Dispatch:
    (decision,) = placement.submit(request, 0.0)
    assert isinstance(decision, Dispatch)
    return decision


def refusal(placement: LeastLoaded, request: PlacementRequest) -> Refuse:
    (decision,) = placement.submit(request, 0.0)
    assert isinstance(decision, Refuse)
    return decision


def test_requests_spread_over_the_workers_of_both_roles() -> None:
    place = placement(P1, P2, D1, D2)

    both = [dispatch(place, request("a")), dispatch(place, request("b"))]

    assert {decision.mode for decision in both} == {Mode.DISAGGREGATED}
    assert {decision.prefill for decision in both} == {P1, P2}
    assert {decision.decode for decision in both} == {D1, D2}


def test_equal_counts_are_told_apart_by_reported_load() -> None:
    busy = msgspec.structs.replace(P1, load=Load(unprefilled_count=2))
    place = placement(busy, P2, msgspec.structs.replace(D1, load=Load(running_count=1)), D2)

    decision = dispatch(place, request())

    assert (decision.prefill, decision.decode) == (P2, D2)


def test_idle_workers_take_turns() -> None:
    place = placement(P1, P2, D1, D2)
    prefills = []
    for name in "abcd":
        prefills.append(dispatch(place, request(name)).prefill)
        place.finished(name, 0.0)

    assert prefills == [P1, P2, P1, P2]


def test_at_the_bound_a_request_waits_until_a_prefill_is_over() -> None:
    place = placement(P1, D1, max_unprefilled=1)
    place.submit(request("a"), 0.0)

    waiting = place.submit(request("b"), 0.0)
    released = place.prefilled("a", 1.0)

    assert waiting == []
    assert released == [Dispatch("b", P1, D1, Mode.DISAGGREGATED)]


def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    place = placement(P1, D1, max_unprefilled=1, max_queued=1)
    place.submit(request("a"), 0.0)
    place.submit(request("b"), 0.0)

    decision = refusal(place, request("c"))

    assert decision.fault is Fault.QUEUE_FULL
    assert decision.retry_after_seconds


def test_a_full_queue_does_not_refuse_a_request_that_was_let_in_before() -> None:
    place = placement(P1, D1, max_unprefilled=1, max_queued=0)
    place.submit(request("a"), 0.0)

    decision = dispatch(place, request("b", cause=Reason.PREFILL_FAILED))

    assert (decision.mode, decision.reason) == (Mode.FALLBACK, Reason.PREFILL_FAILED)


def test_nobody_waits_behind_one_who_waits_for_another_worker() -> None:
    place = placement(P1, P2, D1, max_unprefilled=1)
    for name in "ab":
        place.submit(request(name), 0.0)
    place.submit(request("c", avoid=frozenset({WorkerId("p1")})), 0.0)
    place.submit(request("d"), 0.0)

    released = place.prefilled("a", 1.0)

    assert [(decision.request_id) for decision in released] == ["d"]


def test_without_a_prefill_worker_a_decode_worker_does_both() -> None:
    decision = dispatch(placement(D1), request())

    assert decision == Dispatch("r", None, D1, Mode.FALLBACK, Reason.NO_PREFILL_WORKER)


def test_without_a_prefill_worker_a_request_is_refused_where_that_is_set() -> None:
    decision = refusal(placement(D1, on_no_prefill="fail"), request())

    assert decision.fault is Fault.NO_WORKER


def test_a_failed_transfer_is_computed_again_wherever_prefill_workers_are_a_must() -> None:
    place = placement(P1, D1, on_no_prefill="fail")

    decision = dispatch(place, request(separable=False, cause=Reason.TRANSFER_FAILED))

    assert (decision.mode, decision.reason) == (Mode.FALLBACK, Reason.TRANSFER_FAILED)


@pytest.mark.parametrize(("settings", "separable"), [({"disaggregate": False}, True), ({}, False)])
def test_one_worker_by_choice_is_mode_aggregated(settings: dict[str, Any], separable: bool) -> None:
    decision = dispatch(placement(P1, D1, **settings), request(separable=separable))

    assert decision == Dispatch("r", None, D1, Mode.AGGREGATED)


@pytest.mark.parametrize("workers", [(), (P1,), (make_worker("d", Role.DECODE, model="other"),)])
def test_without_a_decode_worker_for_the_model_a_request_is_refused(
    workers: tuple[Worker, ...],
) -> None:
    assert refusal(placement(*workers), request()).fault is Fault.NO_WORKER


@pytest.mark.parametrize("difference", [{"revision": "r2"}, {"compatibility": "c2"}])
def test_workers_of_different_revisions_or_engines_never_pair(difference: dict[str, str]) -> None:
    decision = dispatch(placement(P1, make_worker("d", Role.DECODE, **difference)), request())

    assert decision.mode is Mode.FALLBACK


def test_a_worker_of_both_roles_does_not_pair_with_itself() -> None:
    alone, other = make_worker("b1", Role.BOTH), make_worker("b2", Role.BOTH)

    assert dispatch(placement(alone), request()).mode is Mode.FALLBACK
    decision = dispatch(placement(alone, other), request())
    assert {decision.prefill, decision.decode} == {alone, other}


def test_a_draining_worker_gets_nothing_new_and_keeps_what_it_has() -> None:
    place = placement(P1, D1)
    place.submit(request("a"), 0.0)
    place.set_workers([P1, msgspec.structs.replace(D1, state=WorkerState.DRAINING), D2], 1.0)

    decision = dispatch(place, request("b"))

    assert decision.decode == D2
    assert sum(counts.decoding for counts in place.snapshot().workers) == 2


def test_a_new_incarnation_starts_from_zero_and_is_not_charged_for_the_old() -> None:
    place = placement(P1, D1)
    place.submit(request("a"), 0.0)
    place.set_workers([make_worker("p1", Role.PREFILL, incarnation="2"), D1], 1.0)

    before = {counts.worker_id: counts.unprefilled for counts in place.snapshot().workers}
    place.prefilled("a", 2.0)
    place.finished("a", 3.0)

    assert before[P1.worker_id] == 0
    assert {counts.unprefilled for counts in place.snapshot().workers} == {0}


def test_when_the_last_prefill_worker_leaves_the_waiting_fall_back() -> None:
    place = placement(P1, D1, max_unprefilled=1)
    place.submit(request("a"), 0.0)
    place.submit(request("b"), 0.0)

    decisions = place.set_workers([D1], 1.0)

    assert decisions == [Dispatch("b", None, D1, Mode.FALLBACK, Reason.NO_PREFILL_WORKER)]


def test_a_decode_worker_is_replaced_only_by_one_that_can_read_the_same_blocks() -> None:
    stranger = make_worker("d9", Role.DECODE, revision="r2")
    place = placement(P1, D1, stranger)
    place.submit(request("a"), 0.0)

    nobody = place.move_decode("a", frozenset({D1.worker_id}), 1.0)
    place.set_workers([P1, D1, D2, stranger], 2.0)
    somebody = place.move_decode("a", frozenset({D1.worker_id}), 3.0)

    assert (nobody, somebody) == (None, D2)
    counts = {counts.worker_id: counts.decoding for counts in place.snapshot().workers}
    assert counts == {"p1": 0, "d1": 0, "d2": 1, "d9": 0}


def test_the_late_are_refused_and_the_others_stay() -> None:
    place = placement(P1, D1, max_unprefilled=1)
    place.submit(request("a"), 0.0)
    place.submit(request("b", deadline_at=5.0), 0.0)
    place.submit(request("c", deadline_at=9.0), 0.0)

    (decision,) = place.expire(5.0)

    assert isinstance(decision, Refuse)
    assert (decision.request_id, decision.fault) == ("b", Fault.DEADLINE_EXCEEDED)
    assert place.snapshot().queued == 1


def test_finishing_twice_is_a_bug_of_the_caller() -> None:
    place = placement(P1, D1)
    place.submit(request("a"), 0.0)
    place.finished("a", 1.0)

    with pytest.raises(KeyError):
        place.finished("a", 2.0)
