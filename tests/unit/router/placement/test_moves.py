"""Which waiting requests change their worker."""

from collections.abc import Callable

import pytest

from twofold_cluster.identity import Role
from twofold_router.placement.accounts import Account
from twofold_router.placement.deadline_order import ByDeadline
from twofold_router.placement.moves import BATCH_COUNT, BatchRebalance, CostRebalance, Stay
from twofold_router.placement.orders import Order
from twofold_router.placement.prefix_sources import longest_held
from twofold_router.placement.testing import make_account, make_key, make_waiting
from twofold_router.placement.waiting import Waiting


def account(name: str, make_queue: Callable[[], Order] | None = None) -> Account:
    """Make one that takes a millisecond a token."""
    made = make_account(name, queue=make_queue() if make_queue else None)
    made.speed.announce(0.001)
    return made


def by_deadline() -> Order:
    return ByDeadline(lambda tenant: 0, 1 / 16, 30.0)


def wait(serial: int, seconds: float, *candidates: Account, arrived: float = 0.0) -> Waiting:
    """Have somebody wait at the first of *candidates* with so much to compute anywhere."""
    waiting = make_waiting(serial, prompt_tokens=seconds * 1000, arrived_at=arrived)
    waiting.candidates = candidates
    candidates[0].enqueue(waiting, arrived)
    return waiting


def load(at: Account, seconds: float) -> None:
    at.start_prefill(f"work {len(at.unprefilled)}", seconds * 1000, 0.0)


def move_all(rebalance: BatchRebalance, arriving: Waiting, now: float = 0.0) -> list[int]:
    moved = []
    for move in rebalance.arrived(arriving, now):
        assert move.waiting.at is not None
        move.waiting.at.dequeue(move.waiting)
        move.to.enqueue(move.waiting, now)
        moved.append(move.waiting.serial)
    return moved


def test_who_stays_never_moves() -> None:
    a, b = account("a"), account("b")
    load(a, 100.0)

    assert list(Stay().arrived(wait(1, 9.0, a, b), 0.0)) == []
    assert list(Stay().has_room(b, 0.0)) == []


def test_of_two_overloaded_homes_those_who_gain_most_move_first_and_only_while_they_gain() -> None:
    a, b, idle = account("a"), account("b"), account("idle")
    load(a, 6.0)
    load(b, 6.0)
    small, large = wait(1, 1.0, a, idle), wait(2, 3.0, a, idle)
    arriving = wait(3, 1.0, a, b)

    moved = move_all(BatchRebalance(5.0, slo_seconds=100.0), arriving)

    # Here 11 s: at the idle one the small gains 10 s and the large 8 s; the one of the pair cannot.
    assert moved == [1, 2]
    assert (small.at, large.at, arriving.at) == (idle, idle, a)


def test_nobody_moves_beyond_the_target_or_without_gain() -> None:
    a, b, other = account("a"), account("b"), account("other")
    load(a, 20.0)
    load(b, 20.0)
    wait(1, 4.0, a, other)
    wait(2, 4.0, a, other)
    arriving = wait(3, 1.0, a, b)

    moved = move_all(BatchRebalance(5.0, slo_seconds=5.0), arriving)

    assert moved == [1]  # then the other home has 4 s to do, and 8 s are too long
    load(b, 50.0)
    load(other, 50.0)
    assert move_all(BatchRebalance(5.0, slo_seconds=1e9), arriving) == []


@pytest.mark.parametrize(("idle_home", "moves"), [(True, False), (False, True)])
def test_while_one_home_is_not_overloaded_nobody_moves(idle_home: bool, moves: bool) -> None:
    a, b, other = account("a"), account("b"), account("other")
    load(a, 6.0)
    load(b, 1.0 if idle_home else 6.0)
    wait(1, 1.0, a, other)

    moved = move_all(BatchRebalance(5.0, 5.0), wait(2, 1.0, a, b))

    assert bool(moved) == moves


def test_a_queue_whose_oldest_has_waited_for_long_is_overloaded() -> None:
    a, b, other = account("a"), account("b"), account("other")
    load(a, 2.0)
    load(b, 2.0)
    wait(1, 0.5, a, other, arrived=-3.1)
    wait(2, 0.5, b, arrived=-3.1)
    rebalance = BatchRebalance(5.0, 5.0)
    arriving = wait(3, 0.1, a, b)

    assert list(rebalance.arrived(arriving, -0.2)) == []
    assert move_all(rebalance, arriving) == [1]


def test_one_who_was_served_meanwhile_does_not_move() -> None:
    a, b, other = account("a"), account("b"), account("other")
    load(a, 9.0)
    load(b, 9.0)
    wait(1, 1.0, a, other)
    second = wait(2, 2.0, a, other)
    moves = BatchRebalance(5.0, 100.0).arrived(wait(3, 1.0, a, b), 0.0)
    assert next(moves).waiting.serial == 1

    a.dequeue(second)

    assert second not in [move.waiting for move in moves]


def test_a_worker_with_room_takes_over_who_gains_most() -> None:
    busy, free = account("busy"), account("free")
    load(busy, 3.0)
    wait(1, 1.0, busy, free)
    warm = wait(2, 1.0, busy, free)
    free.mirror.hold(warm.request.key, 512)

    (move,) = CostRebalance().has_room(free, 0.0)

    assert (move.waiting, move.to) == (warm, free)


def test_nobody_moves_to_compute_again_what_waiting_would_save() -> None:
    busy, free = account("busy"), account("free")
    load(busy, 3.0)
    waiting = wait(1, 1.5, busy, free)
    # Nothing of the prompt is to be computed where it waits.
    waiting.seconds = 0.1

    assert list(CostRebalance().has_room(free, 0.0)) == []
    load(busy, 3.0)
    assert len(list(CostRebalance().has_room(free, 0.0))) == 1


def test_nobody_moves_to_where_others_answers_are_in_the_way() -> None:
    busy, free = (make_account(name, Role.BOTH) for name in ("busy", "free"))
    for each in (busy, free):
        each.speed.announce(0.001)
    load(busy, 2.0)
    wait(1, 0.1, busy, free)
    assert len(list(CostRebalance().has_room(free, 0.0))) == 1

    for number in range(100):
        free.batch.admit(f"running {number}", 100, 300, 300)

    assert list(CostRebalance().has_room(free, 0.0)) == []


def test_who_is_put_off_waits_for_all_of_the_plan() -> None:
    busy, free = account("busy", by_deadline), account("free")
    wait(1, 3.0, busy)
    late = wait(2, 5.5, busy, free)  # later than 5 s wherever it goes
    assert busy.queue.ahead_seconds == 3.0

    (move,) = CostRebalance().has_room(free, 0.0)

    assert move.waiting is late


def test_a_bounded_number_is_looked_at() -> None:
    busy, free = account("busy"), account("free")
    load(busy, 3.0)
    for serial in range(2 * BATCH_COUNT):
        waiting = wait(serial, 1.0, busy, free)
    free.mirror.hold(waiting.request.key, 512)

    (move,) = CostRebalance().has_room(free, 0.0)

    assert move.waiting.serial < BATCH_COUNT


def test_who_can_fetch_the_prefix_takes_over_whom_it_would_not_by_computing() -> None:
    busy = make_account("busy", queue=by_deadline(), side_channel="busy.example:1")
    idle = make_account("idle", queue=by_deadline(), side_channel="idle.example:1")
    key = make_key("a", "b", "c", "d")
    for each in (busy, idle):
        each.speed.announce(0.001)
    busy.mirror.hold(key, 2048)
    load(busy, 4.0)
    waiting = make_waiting(1, key=key, slo_seconds=60.0)
    waiting.candidates = (busy, idle)
    waiting.held_tokens = longest_held((busy, idle), key)
    busy.enqueue(waiting, 0.0)
    assert list(CostRebalance().has_room(idle, 0.0)) == []

    idle.pull_speed.observe(0.1, 1000)

    assert [move.to for move in CostRebalance().has_room(idle, 0.0)] == [idle]
