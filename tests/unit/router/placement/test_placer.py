"""The state machine that all policies share, example by example; its invariants are in
test_placement_machine."""

from typing import Any

import msgspec
import pytest

from twofold_cluster.errors import Fault
from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.kv_events import BlockRemoved, BlockStored
from twofold_cluster.worker import Load, Worker, WorkerState
from twofold_router.placement import (
    POLICIES,
    Decision,
    Dispatch,
    Mode,
    Outcome,
    PlacementRequest,
    PlacementSettings,
    Placer,
    PromptUsage,
    Reason,
    Refuse,
)
from twofold_router.placement.testing import make_key, make_request
from twofold_router.testing import make_worker

P1, P2 = make_worker("p1", Role.PREFILL), make_worker("p2", Role.PREFILL)
D1, D2 = make_worker("d1", Role.DECODE), make_worker("d2", Role.DECODE)
B1, B2 = make_worker("b1", Role.BOTH), make_worker("b2", Role.BOTH)


def placer(*workers: Worker, policy: str = "least-loaded", **settings: Any) -> Placer:
    made = Placer(POLICIES[policy], PlacementSettings(**settings))
    made.workers_changed(workers, 0.0)
    return made


def narrow(*workers: Worker, **settings: Any) -> Placer:
    """Make one that dispatches one prompt at a time to each worker."""
    return placer(*workers, **({"max_unprefilled_tokens": 1} | settings))


def dispatch(place: Placer, request: PlacementRequest, now: float = 0.0) -> Dispatch:
    (decision,) = place.submit(request, now)
    assert isinstance(decision, Dispatch)
    return decision


def refusal(place: Placer, request: PlacementRequest, now: float = 0.0) -> Refuse:
    (decision,) = place.submit(request, now)
    assert isinstance(decision, Refuse)
    return decision


def names(decisions: list[Decision]) -> list[str]:
    return [decision.request_id for decision in decisions]


def counts(place: Placer, what: str) -> dict[str, Any]:
    return {each.worker_id: getattr(each, what) for each in place.snapshot().workers}


# Roles and modes


def test_requests_spread_over_the_workers_of_both_roles() -> None:
    place = placer(P1, P2, D1, D2)

    both = [dispatch(place, make_request(name)) for name in "ab"]

    assert {decision.mode for decision in both} == {Mode.DISAGGREGATED}
    assert {decision.prefill for decision in both} == {P1, P2}
    assert {decision.decode for decision in both} == {D1, D2}


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_a_worker_of_both_roles_serves_alone_what_it_computes(policy: str) -> None:
    place = placer(B1, B2, policy=policy)

    for name in "abcd":
        decision = dispatch(place, make_request(name))
        assert (decision.prefill, decision.mode, decision.reason) == (None, Mode.AGGREGATED, None)
        place.prefilled(name, None, 0.0)


def test_with_the_phases_together_decode_workers_have_queues_too() -> None:
    place = narrow(P1, D1, disaggregate=False)
    first = dispatch(place, make_request("a"))

    waiting = place.submit(make_request("b"), 0.0)

    assert (first.decode, first.prefill, first.mode) == (D1, None, Mode.AGGREGATED)
    assert waiting == []
    assert names(place.prefilled("a", None, 0.01)) == ["b"]


def test_a_request_that_cannot_be_parted_goes_to_one_worker_by_choice() -> None:
    decision = dispatch(placer(P1, D1), make_request(separable=False))

    assert (decision.decode, decision.prefill, decision.mode) == (D1, None, Mode.AGGREGATED)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_requests_that_cannot_be_parted_wait_as_others_do(policy: str) -> None:
    place = narrow(P1, D1, policy=policy, max_queued=1)
    whole = [make_request(name, separable=False) for name in "abc"]
    dispatch(place, whole[0])

    waits = place.submit(whole[1], 0.0)
    refused = refusal(place, whole[2])
    (next_one,) = place.prefilled("a", None, 1.0)

    assert waits == []
    assert refused.fault is Fault.QUEUE_FULL
    assert isinstance(next_one, Dispatch)
    assert (next_one.request_id, next_one.mode, next_one.decode) == ("b", Mode.AGGREGATED, D1)


def test_without_a_prefill_worker_requests_wait_or_are_refused_for_lateness() -> None:
    place = narrow(slow(D1), policy="twofold")
    dispatch(place, make_request("a"))  # 512 tokens: half a second
    late = refusal(place, make_request("b", ttft_slo_seconds=0.4, refuse_late=True))
    patient = place.submit(make_request("c"), 0.0)
    (next_one,) = place.prefilled("a", None, 1.0)

    assert (late.message, patient) == ("no worker can begin to answer in time", [])
    assert isinstance(next_one, Dispatch)
    assert (next_one.mode, next_one.reason) == (Mode.FALLBACK, Reason.NO_PREFILL_WORKER)


def test_those_who_wait_when_the_last_prefill_worker_goes_wait_at_a_decode_worker() -> None:
    place = narrow(P1, D1)
    for name in "abc":
        place.submit(make_request(name), 0.0)

    first = place.workers_gone([P1.worker_id], 1.0)
    second = place.tick(1000.0)

    assert names(first) == ["b"]
    assert names(second) == ["c"]
    assert all(isinstance(d, Dispatch) and d.mode is Mode.FALLBACK for d in (*first, *second))


def test_who_failed_before_waits_for_no_decode_worker() -> None:
    place = narrow(P1, D1)
    for name in "ab":
        dispatch(place, make_request(name, separable=False, cause=Reason.TRANSFER_FAILED))


def test_a_prefill_worker_that_joins_takes_over_who_waits_for_a_decode_worker() -> None:
    place = narrow(slow(D1), policy="twofold")
    dispatch(place, make_request("a"))
    assert place.submit(make_request("b"), 0.0) == []

    (decision,) = place.workers_changed([P1], 0.0)

    assert isinstance(decision, Dispatch)
    assert (decision.request_id, decision.prefill, decision.decode) == ("b", P1, slow(D1))


def slow(worker: Worker) -> Worker:
    """Return one that takes a millisecond a token to prefill."""
    return msgspec.structs.replace(worker, load=Load(seconds_per_prefill_token=0.001))


@pytest.mark.parametrize("difference", [{"revision": "r2"}, {"compatibility": "c2"}])
def test_workers_of_different_revisions_or_engines_never_pair(difference: dict[str, Any]) -> None:
    stranger = make_worker("d", Role.DECODE, **difference)
    decision = dispatch(placer(P1, stranger), make_request())

    assert (decision.prefill, decision.decode) == (None, stranger)
    assert (decision.mode, decision.reason) == (Mode.FALLBACK, Reason.NO_PREFILL_WORKER)


def test_prefill_workers_go_with_decode_workers_of_their_own_revision() -> None:
    p2 = make_worker("p2", Role.PREFILL, revision="r2")
    d2 = make_worker("d2", Role.DECODE, revision="r2")
    place = placer(P1, p2, D1, d2)

    for name in "abcd":
        decision = dispatch(place, make_request(name))
        assert decision.prefill is not None
        assert decision.prefill.revision == decision.decode.revision


def test_without_a_prefill_worker_a_decode_worker_does_both() -> None:
    decision = dispatch(placer(D1), make_request())

    assert (decision.decode, decision.prefill) == (D1, None)
    assert (decision.mode, decision.reason) == (Mode.FALLBACK, Reason.NO_PREFILL_WORKER)


def test_without_a_prefill_worker_a_request_is_refused_where_that_is_set() -> None:
    place = placer(D1, on_no_prefill="fail")

    assert refusal(place, make_request("a")).fault is Fault.NO_WORKER
    busy = make_request("b", cause=Reason.PREFILL_REFUSED)
    assert refusal(place, busy).fault is Fault.PREFILL_BUSY


def test_a_failed_transfer_is_computed_again_wherever_prefill_workers_are_a_must() -> None:
    place = placer(P1, D1, on_no_prefill="fail")

    decision = dispatch(place, make_request(separable=False, cause=Reason.TRANSFER_FAILED))

    assert (decision.mode, decision.reason) == (Mode.FALLBACK, Reason.TRANSFER_FAILED)


@pytest.mark.parametrize("workers", [(), (P1,), (make_worker("d", Role.DECODE, model="other"),)])
def test_without_a_decode_worker_for_the_model_a_request_is_refused(
    workers: tuple[Worker, ...],
) -> None:
    decision = refusal(placer(*workers), make_request())

    assert (decision.fault, decision.retry_after_seconds) == (Fault.NO_WORKER, 1)


@pytest.mark.parametrize("policy", ["twofold", "dual-map", "one-ring"])
def test_a_request_that_failed_goes_to_another_home_then_to_any_then_falls_back(
    policy: str,
) -> None:
    prefills = [make_worker(f"p{number}", Role.PREFILL) for number in range(5)]
    place = placer(*prefills, D1, policy=policy)
    tried: list[WorkerId] = []
    for number in range(5):
        cause = Reason.PREFILL_FAILED if tried else None
        again = make_request(f"r{number}", key=make_key("k"), avoid=frozenset(tried), cause=cause)
        decision = dispatch(place, again)
        assert decision.mode is Mode.DISAGGREGATED
        assert decision.prefill is not None
        tried.append(decision.prefill.worker_id)
    last = make_request("last", avoid=frozenset(tried), cause=Reason.PREFILL_FAILED)
    decision = dispatch(place, last)

    assert len(set(tried)) == 5
    assert (decision.mode, decision.reason) == (Mode.FALLBACK, Reason.PREFILL_FAILED)


def test_a_prompt_that_a_decode_worker_nearly_holds_is_not_computed_elsewhere() -> None:
    place = placer(P1, D1, D2, min_uncached_tokens=600)
    first = dispatch(place, make_request("a", key=make_key("x", "y", "z")))
    place.prefilled("a", PromptUsage(1536, 0), 0.3)
    place.finished("a", Outcome(output_tokens=1), 1.0)

    near = dispatch(place, make_request("b", key=make_key("x", "y", "z", rest_tokens=500)))
    far = dispatch(place, make_request("c", key=make_key("x", "y", "w", "v")))

    assert first.mode is far.mode is Mode.DISAGGREGATED
    assert (near.mode, near.reason, near.decode) == (Mode.AGGREGATED, None, first.decode)


# Waiting


def test_at_the_bound_a_request_waits_until_a_prefill_is_over() -> None:
    place = narrow(P1, D1)
    place.submit(make_request("a"), 0.0)

    waiting = place.submit(make_request("b"), 0.0)
    (released,) = place.prefilled("a", PromptUsage(512, 0), 1.0)

    assert waiting == []
    assert isinstance(released, Dispatch)
    assert (released.request_id, released.prefill) == ("b", P1)


def test_short_prompts_fill_the_bound_in_tokens_together() -> None:
    place = placer(P1, D1, max_unprefilled_tokens=1024)

    sent = [names(place.submit(make_request(name), 0.0)) for name in "abc"]

    assert sent == [["a"], ["b"], []]


def test_a_long_prompt_goes_alone_and_nobody_overtakes_it_for_ever() -> None:
    place = placer(P1, D1, max_unprefilled_tokens=1024)
    place.submit(make_request("a"), 0.0)
    place.submit(make_request("long", key=make_key(*range(9))), 0.0)
    place.submit(make_request("b"), 0.0)

    assert counts(place, "queued")["p1"] == 2
    assert names(place.prefilled("a", None, 0.1)) == ["long"]


def test_nobody_waits_behind_one_who_waits_for_another_worker() -> None:
    place = narrow(P1, P2, D1)
    for name in "ab":
        place.submit(make_request(name), 0.0)
    place.submit(make_request("c", avoid=frozenset({P1.worker_id})), 0.0)
    place.submit(make_request("d"), 0.0)

    assert names(place.prefilled("a", None, 1.0)) == ["d"]


def test_who_leaves_makes_room_for_the_one_behind() -> None:
    place = placer(P1, D1, max_unprefilled_tokens=1024)
    place.submit(make_request("a"), 0.0)
    place.submit(make_request("long", key=make_key(*range(9))), 0.0)
    place.submit(make_request("b"), 0.0)

    assert names(place.withdraw("long", 0.1)) == ["b"]


def test_those_whose_time_is_over_are_refused_before_others_take_the_room() -> None:
    place = placer(P1, D1, max_unprefilled_tokens=1024)
    place.submit(make_request("a"), 0.0)
    place.submit(make_request("long", key=make_key(*range(9)), deadline_at=4.95), 0.0)
    place.submit(make_request("b", deadline_at=5.0), 0.0)
    place.submit(make_request("c", deadline_at=9.0), 0.0)

    assert place.tick(4.9) == []
    decisions = place.tick(5.0)

    assert names(decisions) == ["long", "b", "c"]
    refused = [decision for decision in decisions if isinstance(decision, Refuse)]
    assert {decision.fault for decision in refused} == {Fault.DEADLINE_EXCEEDED}
    assert len(refused) == 2


def test_who_would_rather_be_refused_than_late_is_and_only_who_is() -> None:
    place = narrow(P1, D1, policy="twofold", ttft_slo_seconds=0.2)
    place.submit(make_request("a"), 0.0)
    for name in ("b", "c"):
        assert place.submit(make_request(name, refuse_late=True), 0.0) == []
    place.submit(make_request("d"), 0.0)

    # A prompt of 512 tokens takes 0.082 s: one more is on time, and none after that.
    decisions = place.prefilled("a", None, 0.1)
    later = place.prefilled("b", None, 0.19)

    assert names(decisions) == ["b"]
    assert sorted(names(later)) == ["c", "d"]
    (refused,) = (decision for decision in later if isinstance(decision, Refuse))
    assert (refused.request_id, refused.fault) == ("c", Fault.QUEUE_FULL)
    assert refused.retry_after_seconds == 1


@pytest.mark.parametrize("policy", ["twofold", "dual-map"])
def test_who_would_rather_be_refused_than_late_is_when_its_time_comes(policy: str) -> None:
    place = narrow(P1, D1, policy=policy, ttft_slo_seconds=0.2, max_queued=9)
    place.submit(make_request("a"), 0.0)
    place.submit(make_request("patient"), 0.0)
    place.submit(make_request("b", refuse_late=True), 0.0)

    # Nothing else happens; a prompt of 512 tokens takes 0.082 s.
    assert place.tick(0.11) == []
    (refused,) = place.tick(0.12)

    assert isinstance(refused, Refuse)
    assert (refused.request_id, refused.fault) == ("b", Fault.QUEUE_FULL)
    assert place.snapshot().queued == 1


def test_an_idle_worker_serves_who_will_be_late_unless_it_would_rather_be_refused() -> None:
    place = placer(P1, D1, policy="twofold")

    assert dispatch(place, make_request("late", ttft_slo_seconds=0.0)).prefill == P1
    place.finished("late", None, 1.0)
    refusal(place, make_request("unwilling", ttft_slo_seconds=0.0, refuse_late=True), 1.0)


def test_when_a_late_one_is_refused_the_one_behind_goes() -> None:
    place = placer(P1, D1, policy="twofold", ttft_slo_seconds=0.6, max_unprefilled_tokens=1024)
    place.submit(make_request("a"), 0.0)
    place.submit(make_request("long", key=make_key(*range(6)), refuse_late=True), 0.0)
    place.submit(make_request("b", priority=-1), 0.0)
    place.submit(make_request("longer", key=make_key(*range(9)), ttft_slo_seconds=9.0), 0.0)
    assert counts(place, "queued")["p1"] == 3

    # Now "long" and "b" are late both, and "long" is the first of them.
    assert names(place.withdraw("longer", 0.55)) == ["long", "b"]


# The bound of the queue


def full_queue(**settings: Any) -> Placer:
    place = narrow(P1, D1, **({"max_queued": 2} | settings))
    for name, tenant, priority in (("a", "", 0), ("b", "big", 0), ("c", "big", 1)):
        place.submit(make_request(name, tenant=tenant, priority=priority), 0.0)
    return place


def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    decision = refusal(full_queue(), make_request("d", tenant="big"))

    assert (decision.request_id, decision.fault) == ("d", Fault.QUEUE_FULL)
    assert decision.retry_after_seconds == 1
    assert "2 requests" in decision.message


def test_a_full_queue_refuses_the_least_important() -> None:
    place = full_queue()

    assert refusal(place, make_request("d", priority=1)).request_id == "b"
    assert place.snapshot().queued == 2


def test_a_full_queue_tells_how_long_it_takes_but_not_more_than_a_minute() -> None:
    place = narrow(P1, D1, max_queued=1)
    for name in "ab":
        place.submit(make_request(name, key=make_key(name, *range(29))), 0.0)  # 2.5 s each
    assert refusal(place, make_request("c")).retry_after_seconds == 5
    place.workers_changed(
        [msgspec.structs.replace(P1, load=Load(seconds_per_prefill_token=1.0))], 0
    )

    assert refusal(place, make_request("d")).retry_after_seconds == 60


def test_a_full_queue_does_not_refuse_a_request_that_was_let_in_before() -> None:
    place = narrow(P1, D1, max_queued=0)
    place.submit(make_request("a"), 0.0)

    decision = dispatch(place, make_request("b", cause=Reason.PREFILL_FAILED))

    assert (decision.mode, decision.reason) == (Mode.FALLBACK, Reason.PREFILL_FAILED)


def test_who_stood_behind_one_that_is_turned_away_goes() -> None:
    place = placer(P1, D1, max_unprefilled_tokens=1024, max_queued=1)
    place.submit(make_request("a"), 0.0)
    place.submit(make_request("long", key=make_key(*range(9)), priority=-1), 0.0)

    assert names(place.submit(make_request("b"), 0.0)) == ["long", "b"]


# Workers that come and go


def test_a_draining_worker_gets_nothing_new_and_keeps_what_it_has() -> None:
    place = placer(P1, D1)
    place.submit(make_request("a"), 0.0)
    place.workers_changed([msgspec.structs.replace(D1, state=WorkerState.DRAINING), D2], 1.0)

    assert dispatch(place, make_request("b")).decode == D2
    assert counts(place, "decoding") == {"p1": 0, "d1": 1, "d2": 1}


def test_a_new_incarnation_is_not_charged_for_the_old_whose_requests_still_end() -> None:
    place = placer(P1, D1)
    place.submit(make_request("a"), 0.0)
    place.workers_changed([make_worker("p1", Role.PREFILL, incarnation="2")], 1.0)

    before = counts(place, "unprefilled")["p1"]
    place.prefilled("a", PromptUsage(512, 0), 2.0)
    place.finished("a", None, 3.0)

    assert before == 0
    assert counts(place, "mirrored_blocks") == {"p1": 0, "d1": 1}
    assert place.snapshot().in_flight == 0


def test_when_the_last_prefill_worker_leaves_the_waiting_fall_back() -> None:
    place = narrow(P1, D1)
    for name in "ab":
        place.submit(make_request(name), 0.0)

    (decision,) = place.workers_gone([P1.worker_id], 1.0)

    assert isinstance(decision, Dispatch)
    assert (decision.request_id, decision.decode) == ("b", D1)
    assert (decision.mode, decision.reason) == (Mode.FALLBACK, Reason.NO_PREFILL_WORKER)
    assert place.tick(2e9) == []


def test_those_who_lose_their_place_find_another_in_the_order_they_came() -> None:
    place = narrow(P1, D1)
    for name in "abcd":
        place.submit(make_request(name), 0.0)

    decisions = place.workers_changed(
        [msgspec.structs.replace(P1, state=WorkerState.DRAINING), P2], 1.0
    )

    assert names(decisions) == ["b"]
    assert counts(place, "queued") == {"p1": 0, "d1": 0, "p2": 2}


@pytest.mark.parametrize("policy", ["twofold", "dual-map"])
def test_a_join_moves_only_those_who_gain_by_its_room(policy: str) -> None:
    place = narrow(P1, D1, policy=policy, ttft_slo_seconds=1e6)
    for number in range(10):
        place.submit(make_request(f"r{number}", key=make_key(number)), 0.0)

    decisions = place.workers_changed([P2], 0.1)

    moved = 1 if policy == "twofold" else 0
    assert len(decisions) == place.snapshot().moved == moved
    assert counts(place, "queued") == {"p1": 9 - moved, "d1": 0, "p2": 0}


def test_a_worker_that_failed_a_request_does_not_get_it_back_by_restarting() -> None:
    place = narrow(P1, P2, D1, policy="twofold")
    for number in range(12):
        place.submit(make_request(f"r{number}", avoid=frozenset({P2.worker_id})), 0.0)
    assert counts(place, "queued") == {"p1": 11, "p2": 0, "d1": 0}

    place.workers_changed([make_worker("p2", Role.PREFILL, incarnation="2")], 1.0)

    assert counts(place, "queued") == {"p1": 11, "p2": 0, "d1": 0}


def test_a_worker_that_left_takes_nobody_over() -> None:
    place = narrow(P1, P2, D1, policy="twofold")
    for number in range(6):
        place.submit(make_request(f"r{number}", key=make_key("k", number)), 0.0)
    old = place._workforce.accounts[P1.worker_id]
    running = next(iter(old.unprefilled))

    place.workers_changed([msgspec.structs.replace(P1, state=WorkerState.DRAINING)], 0.1)
    decisions = place.prefilled(running, None, 0.2)

    assert decisions == []
    assert old.guests == {}
    assert counts(place, "queued") == {"p1": 0, "p2": 4, "d1": 0}


def test_ten_thousand_join_at_once_while_a_thousand_wait() -> None:
    place = narrow(P1, D1, policy="twofold", max_queued=2_000)
    for number in range(1_001):
        place.submit(make_request(f"r{number}"), 0.0)
    newcomers = [make_worker(f"w{number}", Role.PREFILL) for number in range(2_000)]

    decisions = place.workers_changed(newcomers, 0.1)

    # Each is one of two homes of every thousandth newcomer, so most find one.
    assert 300 < len(decisions) <= 1_000


# Whom it sends to


@pytest.mark.parametrize("policy", ["twofold", "dual-map", "one-ring", "min-ttft"])
def test_a_conversation_comes_back_to_the_worker_that_holds_it(policy: str) -> None:
    prefills = [make_worker(f"p{number}", Role.PREFILL) for number in range(8)]
    place = placer(*prefills, D1, policy=policy)
    chosen = set()
    for turn in range(1, 6):
        blocks = [f"turn {number}" for number in range(2 * turn)]
        now = 10.0 * turn
        decision = dispatch(place, make_request(f"r{turn}", key=make_key(*blocks)), now)
        assert decision.prefill is not None
        assert decision.cached_tokens == max(1024.0 * (turn - 1), 0.0)
        chosen.add(decision.prefill.worker_id)
        place.prefilled(decision.request_id, PromptUsage(1024 * turn), now + 1)
        place.finished(decision.request_id, Outcome(output_tokens=5), now + 2)

    assert len(chosen) == 1


def test_a_worker_that_gets_room_takes_over_a_guest() -> None:
    place = narrow(P1, P2, D1, policy="twofold")
    for name in "abcdef":
        place.submit(make_request(name, key=make_key("k", name)), 0.0)
    queued = counts(place, "queued")
    here = "p1" if queued["p1"] < queued["p2"] else "p2"
    there = {"p1": "p2", "p2": "p1"}[here]
    if queued[here]:  # serve its own first
        running = next(iter(place._workforce.accounts[WorkerId(here)].unprefilled))
        place.prefilled(running, None, 0.05)

    running = next(iter(place._workforce.accounts[WorkerId(here)].unprefilled))
    decisions = place.prefilled(running, None, 0.06)

    assert len(decisions) == 1
    assert place.snapshot().moved == 1
    assert counts(place, "queued")[there] == queued[there] - 1


def test_a_prediction_comes_with_the_decision() -> None:
    place = placer(P1, D1)
    decision = dispatch(place, make_request(key=make_key("a", "b")))

    assert (decision.prompt_tokens, decision.cached_tokens) == (1024.0, 0.0)
    assert decision.ttft_seconds == pytest.approx(1024 * 0.00016)


def test_what_an_engine_evicts_is_predicted_no_more() -> None:
    place = placer(P1, D1)
    place.blocks_changed(
        P1.worker_id, P1.incarnation, [BlockStored(tuple(range(64)), None, 1024, 16)]
    )
    place.submit(make_request("a", key=make_key("a", "b")), 0.0)
    place.prefilled("a", PromptUsage(1024, 0), 0.2)
    place.finished("a", None, 0.3)
    assert counts(place, "mirror_is")["p1"] == "exact"

    for incarnation in (Incarnation("another life"), P1.incarnation):
        place.blocks_changed(
            P1.worker_id,
            incarnation,
            [BlockRemoved((63,))],
        )
        decision = dispatch(place, make_request(incarnation, key=make_key("a", "b")), 1.0)
        place.finished(incarnation, None, 1.0)
        expected = 512.0 if incarnation == P1.incarnation else 1008.0
        assert decision.cached_tokens == expected
    place.blocks_changed(WorkerId("unknown"), P1.incarnation, "lost")


# What ends


def test_a_decode_worker_is_replaced_only_by_one_that_can_read_the_same_blocks() -> None:
    stranger = make_worker("d9", Role.DECODE, revision="r2")
    place = placer(P1, D1, stranger)
    place.submit(make_request("a"), 0.0)

    nobody = place.move_decode("a", frozenset({D1.worker_id}), 1.0)
    place.workers_changed([D2], 2.0)
    somebody = place.move_decode("a", frozenset({D1.worker_id}), 3.0)

    assert (nobody, somebody) == ((None, []), (D2, []))
    assert counts(place, "decoding") == {"p1": 0, "d1": 0, "d2": 1, "d9": 0}


def test_one_worker_for_both_phases_is_replaced_by_any_of_its_model_and_makes_room() -> None:
    other = make_worker("b2", Role.BOTH, revision="r2")
    place = narrow(B1, other, policy="one-ring")
    first = dispatch(place, make_request("a", key=make_key("k")))
    place.submit(make_request("b", key=make_key("k")), 0.0)

    worker, decisions = place.move_decode("a", frozenset({first.decode.worker_id}), 0.01)

    assert worker is not None
    assert {worker, first.decode} == {B1, other}
    assert names(decisions) == ["b"]
    assert counts(place, "unprefilled") == {"b1": 1, "b2": 1}
    assert counts(place, "decoding") == {"b1": 1, "b2": 1}


def test_what_nobody_tells_of_is_over_by_the_predicted_time() -> None:
    place = narrow(B1)
    decision = dispatch(place, make_request("a"))
    place.submit(make_request("b"), 0.0)

    assert place.tick(decision.ttft_seconds - 0.001) == []
    assert names(place.tick(decision.ttft_seconds)) == ["b"]
    assert counts(place, "decoding") == {"b1": 2}


def test_leg_1_is_not_over_before_somebody_tells() -> None:
    place = narrow(P1, D1)
    for name in "ab":
        place.submit(make_request(name), 0.0)

    assert place.tick(1e6) == []
    assert counts(place, "unprefilled") == {"p1": 1, "d1": 0}


def test_a_name_may_come_back_when_its_request_is_over() -> None:
    place = narrow(B1)
    for now in (0.0, 0.01):
        decision = dispatch(place, make_request("a"), now)
        place.finished("a", None, now + 0.005)
    place.submit(make_request("a"), 0.05)

    # The moments of the first two lives mean nothing to the third, nor to anybody after it.
    assert place.tick(0.01 + decision.ttft_seconds) == []
    assert counts(place, "unprefilled") == {"b1": 1}
    place.finished("a", None, 0.06)
    assert place.tick(1e6) == []


def test_finishing_twice_is_a_bug_of_the_caller() -> None:
    place = placer(P1, D1)
    place.submit(make_request("a"), 0.0)
    with pytest.raises(AssertionError):
        place.submit(make_request("a"), 0.0)
    place.finished("a", None, 1.0)

    with pytest.raises(KeyError):
        place.finished("a", None, 2.0)
    with pytest.raises(KeyError):
        place.withdraw("a", 2.0)


def test_nothing_is_kept_of_requests_that_are_over() -> None:
    place = narrow(P1, B1, policy="twofold")
    for number in range(600):
        name = f"r{number}"
        place.submit(make_request(name, tenant=name, deadline_at=1e9), float(number))
        place.prefilled(name, PromptUsage(512, 0), number + 0.1)
        place.finished(name, Outcome(output_tokens=1), number + 0.2)

    for expiry in (place._deadlines, place._prefill_ends):
        assert len(expiry._moments._heap) < 100
    assert len(place._bound) == len(place._waiting) == len(place._holdings) == 0


def test_the_speed_of_a_worker_that_does_both_is_learned_though_its_places_end_by_time() -> None:
    both = make_worker("b", Role.BOTH)
    place = placer(both)
    expected = []
    for number in range(4):
        now = 100.0 * number
        key = make_key(number, "x")  # 1,024 tokens: 0.16 s at the default speed
        name = f"r{number}"
        expected.append(dispatch(place, make_request(name, key=key), now).ttft_seconds)
        place.tick(now + 1.0)
        place.prefilled(name, None, now + 2.0)
        place.finished(name, None, now + 3.0)

    assert expected[0] == pytest.approx(0.16, rel=0.1)
    assert expected[3] == pytest.approx(2.0, rel=0.1)


def test_a_full_queue_turns_away_who_is_late_before_who_can_be_on_time() -> None:
    place = placer(P1, D1, policy="twofold", max_queued=1, ttft_slo_seconds=5.0)
    long = make_key(*range(40))  # 20,480 tokens: 3.3 s
    place.submit(make_request("first", key=long), 0.0)
    place.submit(make_request("late", key=make_key("l", *range(40)), ttft_slo_seconds=1.0), 0.0)

    decisions = place.submit(make_request("on time", key=make_key("x")), 0.1)

    assert [(d.request_id, type(d)) for d in decisions] == [("late", Refuse)]


def on_standby(worker: Worker) -> Worker:
    return msgspec.structs.replace(worker, state=WorkerState.STANDBY)


def test_a_worker_on_standby_decodes_what_its_own_revision_computes_and_nothing_else() -> None:
    place = placer(P1, on_standby(D1))

    apart = dispatch(place, make_request("a"))
    together = refusal(place, make_request("b", separable=False))
    place.workers_changed([on_standby(P1)], 1.0)
    late = refusal(place, make_request("c"))

    assert (apart.prefill, apart.decode, apart.mode) == (P1, on_standby(D1), Mode.DISAGGREGATED)
    assert together.fault is late.fault is Fault.NO_WORKER


def test_traffic_moves_with_the_revision_that_is_not_on_standby() -> None:
    p2 = make_worker("p2", Role.PREFILL, revision="r2")
    d2 = make_worker("d2", Role.DECODE, revision="r2")
    place = placer(P1, D1, on_standby(p2), on_standby(d2))
    before = [dispatch(place, make_request(f"a{n}")) for n in range(4)]
    place.workers_changed([p2, d2], 1.0)
    place.workers_changed([on_standby(P1), on_standby(D1)], 2.0)
    after = [dispatch(place, make_request(f"b{n}")) for n in range(4)]

    assert {(each.prefill, each.decode) for each in before} == {(P1, D1)}
    assert {(each.prefill, each.decode) for each in after} == {(p2, d2)}


def test_a_second_leg_finds_a_partner_on_standby_only_in_its_revision() -> None:
    d3 = make_worker("d3", Role.DECODE, revision="r2")
    place = placer(P1, D1, D2, d3)
    first = dispatch(place, make_request("a"))
    place.workers_changed([on_standby(P1), on_standby(D1), on_standby(D2)], 1.0)
    avoid = frozenset({first.decode.worker_id})
    other, _ = place.move_decode("a", avoid, 2.0)
    assert other is not None
    nobody, _ = place.move_decode("a", avoid | {other.worker_id}, 3.0)

    assert {first.decode.worker_id, other.worker_id} == {"d1", "d2"}
    assert nobody is None


def test_what_leg_2_is_refused_is_computed_again_wherever_prefill_workers_are_a_must() -> None:
    d2 = make_worker("d2", Role.DECODE, revision="r2")
    place = placer(P1, on_standby(D1), d2, on_no_prefill="fail")

    again = make_request(separable=False, cause=Reason.DECODE_REFUSED)
    decision = dispatch(place, again)

    assert (decision.decode, decision.reason) == (d2, Reason.DECODE_REFUSED)


def test_a_request_for_a_further_name_goes_where_both_legs_have_it() -> None:
    named = [msgspec.structs.replace(worker, aliases=("other",)) for worker in (P2, D2)]
    place = placer(P1, D1, P2, D2)
    refused = refusal(place, make_request("r0", model="other"))
    place.workers_changed(named, 0.0)

    assert refused.fault is Fault.NO_WORKER
    for number in range(1, 7):
        decision = dispatch(place, make_request(f"r{number}", model="other"))
        assert [decision.prefill, decision.decode] == named


def test_a_request_for_an_adapter_goes_where_both_legs_have_it() -> None:
    adapted = [msgspec.structs.replace(worker, adapters=("tuned",)) for worker in (P2, D2)]
    place = placer(P1, D1, *adapted)

    for number in range(6):
        decision = dispatch(place, make_request(f"r{number}", model="tuned"))
        assert [decision.prefill, decision.decode] == adapted
    other, _ = place.move_decode("r0", frozenset({D2.worker_id}), 1.0)
    assert other is None
    refused = refusal(place, make_request("s", model="another"))
    assert refused.fault is Fault.NO_WORKER


def test_an_adapter_learns_with_its_model() -> None:
    adapted = [msgspec.structs.replace(worker, adapters=("tuned",)) for worker in (P1, D1)]
    place = placer(*adapted)
    dispatch(place, make_request("a", key=make_key("x", "y")))
    place.prefilled("a", PromptUsage(512), 1.0)

    decision = dispatch(place, make_request("b", key=make_key("v", "w"), model="tuned"))

    assert decision.prompt_tokens == pytest.approx(512)


def test_who_waits_for_an_adapter_that_is_unloaded_is_placed_elsewhere() -> None:
    workers = [msgspec.structs.replace(worker, adapters=("tuned",)) for worker in (P1, D1)]
    place = narrow(*workers)
    dispatch(place, make_request("a", model="tuned"))
    assert place.submit(make_request("b", model="tuned"), 0.0) == []

    (decision,) = place.workers_changed([P1], 1.0)

    assert isinstance(decision, Dispatch)
    assert (decision.mode, decision.reason) == (Mode.FALLBACK, Reason.NO_PREFILL_WORKER)


# Prefixes from a third worker

SHARING = [
    make_worker(name, Role.PREFILL, side_channel=f"{name}.example:5600") for name in ("p1", "p2")
]
STORY = make_key(*range(8))
"""4096 tokens."""


def warmed(
    policy: str = "twofold", work_blocks: int = 16, **settings: Any
) -> tuple[Placer, Worker, Worker]:
    """Make one of two prefill workers, where the first has the story and then so much to do that
    two of its blocks are rather computed by the second, and all of them are not."""
    place = placer(*SHARING, D1, policy=policy, **({"max_unprefilled_tokens": 10**6} | settings))
    warm = dispatch(place, make_request("story", key=STORY)).prefill
    assert warm is not None
    place.prefilled("story", PromptUsage(4096, 0), 0.1)
    place.finished("story", None, 0.1)
    work = dispatch(place, make_request("work", key=make_key(*range(8 + work_blocks))), 0.1)
    assert work.prefill == warm
    (cold,) = (worker for worker in SHARING if worker != warm)
    return place, warm, cold


def beginning(request_id: str, block_count: int = 2, **changes: Any) -> PlacementRequest:
    """Make a request with the story's first blocks and one of its own."""
    return make_request(request_id, key=make_key(*range(block_count), request_id), **changes)


@pytest.mark.parametrize(("policy", "work_blocks"), [("twofold", 16), ("dual-map", 100)])
def test_a_candidate_that_holds_the_prefix_is_named_to_the_one_that_does_not(
    policy: str, work_blocks: int
) -> None:
    place, warm, cold = warmed(policy, work_blocks)

    decision = dispatch(place, beginning("r"), 0.1)

    assert decision.prefill == cold
    source = decision.prefix_source
    assert source is not None
    assert (source.engine_id, source.tokens) == (f"{warm.worker_id}:1", 1024)


def test_no_source_is_named_to_who_holds_the_prefix_or_where_it_is_switched_off() -> None:
    place, warm, _ = warmed()
    again = dispatch(place, make_request("again", key=STORY), 0.1)
    assert (again.prefill, again.prefix_source) == (warm, None)

    place, _, cold = warmed(prefix_pull=False)
    decision = dispatch(place, beginning("r"), 0.1)
    assert (decision.prefill, decision.prefix_source) == (cold, None)


def test_a_worker_that_serves_alone_is_told_of_no_source() -> None:
    both = [make_worker(name, Role.BOTH, side_channel=f"{name}.example:1") for name in ("b1", "b2")]
    place = placer(*both, policy="twofold", max_unprefilled_tokens=10**6)
    warm = dispatch(place, make_request("story", key=STORY)).decode
    place.prefilled("story", PromptUsage(4096, 0), 0.1)
    dispatch(place, make_request("work", key=make_key(*range(24))), 0.1)

    decision = dispatch(place, beginning("r"), 0.1)

    assert decision.decode != warm
    assert (decision.prefill, decision.prefix_source) == (None, None)


def test_a_policy_without_candidates_names_no_source() -> None:
    place = placer(*SHARING, D1, policy="round-robin")
    decisions = []
    for name in "abcd":
        decisions.append(dispatch(place, make_request(name, key=STORY)))
        place.prefilled(name, PromptUsage(4096, 0), 0.1)

    assert {each.prefix_source for each in decisions} == {None}
    assert {each.prefill for each in decisions} == set(SHARING)


@pytest.mark.parametrize("state", [WorkerState.DRAINING, WorkerState.STANDBY, None])
def test_a_worker_that_left_while_the_request_waited_is_not_named(
    state: WorkerState | None,
) -> None:
    place, warm, cold = warmed(max_unprefilled_tokens=1)
    blocker = dispatch(place, make_request("blocker", key=make_key("x", "y")), 0.1)
    assert blocker.prefill == cold
    assert place.submit(beginning("r"), 0.1) == []
    if state is None:
        place.workers_gone([warm.worker_id], 0.1)
    else:
        place.workers_changed([msgspec.structs.replace(warm, state=state)], 0.1)

    (decision,) = place.prefilled("blocker", PromptUsage(1024, 0), 0.2)

    assert isinstance(decision, Dispatch)
    assert (decision.prefill, decision.prefix_source) == (cold, None)


@pytest.mark.parametrize("seconds", [None, 0.01])
def test_once_a_pull_was_measured_a_long_prefix_is_fetched_rather_than_waited_for(
    seconds: float | None,
) -> None:
    place, warm, cold = warmed()
    dispatch(place, beginning("short"), 0.1)
    pulled = PromptUsage(1536, 1024, 1024, seconds or 0.0)
    place.prefilled("short", pulled if seconds else PromptUsage(1536, 0), 0.2)

    decision = dispatch(place, beginning("long", 8), 0.2)

    assert decision.prefill == (warm if seconds is None else cold)
    assert (decision.prefix_source is None) == (seconds is None)


def test_what_is_fetched_keeps_a_worker_busy_for_that_time() -> None:
    place, _, cold = warmed()
    dispatch(place, beginning("short"), 0.1)
    place.prefilled("short", PromptUsage(1536, 1024, 1024, 0.01), 0.2)

    dispatch(place, beginning("long", 8), 0.2)

    pulled_tokens = 3072  # it has two blocks by now
    share = (0.01 / 1024) / 0.00016
    expected = 512 + pulled_tokens * share
    assert counts(place, "pending_tokens")[cold.worker_id] == pytest.approx(expected, rel=0.05)


def test_one_that_an_idle_worker_could_serve_at_once_may_still_make_others_move() -> None:
    place = placer(P1, P2, D1, policy="dual-map-artifact", ttft_slo_seconds=5.0)
    busy = dispatch(place, make_request("a", key=make_key(*range(20)))).prefill
    assert busy is not None
    assert place.submit(make_request("b", key=make_key(*range(21))), 0.0) == []
    load = Load(seconds_per_prefill_token=0.0005)
    place.workers_changed([msgspec.structs.replace(busy, load=load)], 0.0)

    # Its 2.6 s make the idle worker as overloaded as the busy one; both together have 4.3 s there.
    (decision,) = place.submit(make_request("long", key=make_key(*range(100, 132))), 0.0)

    assert isinstance(decision, Dispatch)
    assert decision.request_id == "b"
    assert decision.prefill not in (None, busy)
