"""The accounts of all workers that are known."""

import itertools

import msgspec
import pytest

from twofold_cluster.identity import Role, WorkerId
from twofold_cluster.worker import Load, Worker, WorkerState
from twofold_router.placement.orders import ByArrival
from twofold_router.placement.testing import make_key, make_waiting
from twofold_router.placement.waiting import Waiting
from twofold_router.placement.workforce import Workforce
from twofold_router.testing import MODEL, make_worker

P1, P2 = make_worker("p1", Role.PREFILL), make_worker("p2", Role.PREFILL)
D1 = make_worker("d1", Role.DECODE)


TUNED = "tuned"
SERIAL = itertools.count(1)


def workforce(*workers: Worker) -> Workforce:
    made = Workforce(ByArrival, disaggregate=True)
    made.update(workers, 0.0)
    return made


def wait(made: Workforce, *names: str, model: str = MODEL) -> Waiting:
    """Have somebody wait for *model* at the first of *names*, who may also wait at the others."""
    waiting = make_waiting(next(SERIAL), model=model)
    waiting.candidates = tuple(made.accounts[WorkerId(name)] for name in names)
    waiting.candidates[0].enqueue(waiting, 0.0)
    return waiting


def test_new_load_alone_changes_no_pool() -> None:
    made = workforce(P1, D1)
    account = made.accounts[P1.worker_id]
    busy = msgspec.structs.replace(P1, load=Load(3, 2, 1, 0.5, seconds_per_prefill_token=0.002))
    waiting = wait(made, "p1")

    change = made.update([busy], 1.0)

    assert (change.homeless, change.joined) == ([], [])
    assert (account.worker, account.speed.seconds_per_token) == (busy, 0.002)
    assert waiting.at is account


def test_who_can_fetch_from_a_worker_follows_what_it_announces() -> None:
    made = workforce(P1, D1)
    account = made.accounts[P1.worker_id]
    assert account.circle is None

    made.update([msgspec.structs.replace(P1, kv_side_channel="h:1")], 1.0)

    assert made.accounts[P1.worker_id] is account
    assert account.circle == ("fake-service", "r1", "c1", 1)


@pytest.mark.parametrize(
    "worker",
    [
        msgspec.structs.replace(P1, state=WorkerState.DRAINING),
        msgspec.structs.replace(P1, role=Role.DECODE),
        msgspec.structs.replace(P1, revision="r2"),
        make_worker("p1", Role.PREFILL, incarnation="2"),
    ],
    ids=["drains", "changes its role", "changes its revision", "restarts"],
)
def test_who_waits_at_a_worker_that_is_another_now_is_homeless(worker: Worker) -> None:
    made = workforce(P1, P2, D1)
    waiting, elsewhere = wait(made, "p1", "p2"), wait(made, "p2", "p1")
    old = made.accounts[P1.worker_id]

    change = made.update([worker], 1.0)

    assert change.homeless == [waiting]
    assert waiting.at is None
    assert old not in elsewhere.candidates
    assert old.guests == {}


@pytest.mark.parametrize("changing", [P1, D1], ids=["its worker", "the only partner"])
@pytest.mark.parametrize(
    "change", [{"adapters": (TUNED,)}, {"kv_side_channel": "h:1"}], ids=["adapter", "side channel"]
)
def test_who_waits_stays_while_a_worker_comes_to_serve_more(
    changing: Worker, change: dict[str, object]
) -> None:
    made = workforce(P1, P2, D1)
    waiting, elsewhere = wait(made, "p1", "p2"), wait(made, "p2", "p1")

    assert made.update([msgspec.structs.replace(changing, **change)], 1.0).homeless == []

    p1, p2 = (made.accounts[worker.worker_id] for worker in (P1, P2))
    assert (waiting.at, waiting.candidates) == (p1, (p1, p2))
    assert (elsewhere.at, elsewhere.candidates) == (p2, (p2, p1))
    assert (list(p1.guests.values()), list(p2.guests.values())) == ([elsewhere], [waiting])
    assert p1.is_ready


@pytest.mark.parametrize("changing", ["p1", "d1"], ids=["its worker", "the only partner"])
def test_of_those_who_wait_where_an_adapter_goes_only_they_who_ask_for_it_are_homeless(
    changing: str,
) -> None:
    tuned = [msgspec.structs.replace(worker, adapters=(TUNED,)) for worker in (P1, P2, D1)]
    made = workforce(*tuned)
    waiting, for_adapter = wait(made, "p1", "p2"), wait(made, "p1", "p2", model=TUNED)
    elsewhere = wait(made, "p2", "p1", model=TUNED)

    change = made.update([{"p1": P1, "d1": D1}[changing]], 1.0)

    p1, p2 = (made.accounts[worker.worker_id] for worker in (P1, P2))
    assert waiting.at is p1
    assert waiting.candidates == (p1, p2)
    assert for_adapter.at is None
    assert p1.guests == {}
    if changing == "p1":
        assert change.homeless == [for_adapter]
        assert elsewhere.candidates == (p2,)
    else:
        assert change.homeless == [for_adapter, elsewhere]


def test_who_waits_at_a_worker_that_leaves_is_homeless() -> None:
    made = workforce(P1, P2, D1)
    waiting, _ = wait(made, "p1", "p2"), wait(made, "p2")

    change = made.forget([P1.worker_id, WorkerId("unknown")])

    assert change.homeless == [waiting]
    assert made.accounts.keys() == {"p2", "d1"}


def test_when_the_last_partner_goes_nobody_waits_for_a_prefill_worker() -> None:
    made = workforce(P1, D1)
    waiting = wait(made, "p1")

    assert made.forget([D1.worker_id]).homeless == [waiting]
    assert made.update([D1], 2.0).joined == [made.accounts[P1.worker_id]]


def test_a_new_incarnation_starts_with_an_empty_mirror_and_no_counts() -> None:
    made = workforce(P1, D1)
    old = made.accounts[P1.worker_id]
    old.mirror.hold(make_key("a"), 512)
    old.start_prefill("r", 512.0, 0.0)

    made.update([make_worker("p1", Role.PREFILL, incarnation="2")], 1.0)

    new = made.accounts[P1.worker_id]
    assert new is not old
    assert (len(new.mirror), new.unprefilled) == (0, {})


def test_a_worker_that_drains_and_comes_back_is_as_it_was() -> None:
    made = workforce(P1, D1)
    account = made.accounts[P1.worker_id]
    account.mirror.hold(make_key("a"), 512)
    made.update([msgspec.structs.replace(P1, state=WorkerState.DRAINING)], 1.0)
    assert made.pools.prefill(MODEL) is None
    assert not account.is_ready

    change = made.update([P1], 2.0)

    assert change.joined == [account]
    assert len(account.mirror) == 1


def test_of_a_worker_that_is_told_of_twice_the_later_counts() -> None:
    made = workforce(P1, D1)
    draining = msgspec.structs.replace(P1, state=WorkerState.DRAINING)

    made.update([draining, P1], 1.0)
    assert made.accounts[P1.worker_id].is_ready
    made.update([make_worker("p1", Role.PREFILL, incarnation="2"), draining], 2.0)

    assert not made.accounts[P1.worker_id].is_ready


def test_what_was_learned_of_a_model_goes_with_its_last_worker() -> None:
    made = workforce(P1, D1)
    made.forget([P1.worker_id])
    assert MODEL in made.models
    made.forget([D1.worker_id])

    assert made.models == {}
