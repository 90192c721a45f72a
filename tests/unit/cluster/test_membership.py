"""What a follower makes of messages in an unlucky order; the rest needs a real server."""

from collections.abc import Callable

import msgspec
import pytest

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.membership import Roster, connect
from twofold_cluster.membership.entries import FENCE_SECONDS
from twofold_cluster.worker import Engine, Gone, Load, Worker

WORKER = Worker(
    worker_id=WorkerId("worker-0"),
    incarnation=Incarnation("2"),
    service="service",
    role=Role.BOTH,
    revision="1",
    address="http://127.0.0.1:1",
    model="model",
    engine=Engine(version="0", compatibility="a"),
    kv_capacity_tokens=1000,
    kv_block_tokens=16,
    max_model_tokens=1000,
)
BUSY = msgspec.structs.replace(WORKER, load=Load(running_count=3))
OLDER = msgspec.structs.replace(WORKER, incarnation=Incarnation("1"))
FAREWELL = Gone(worker_id=WORKER.worker_id, incarnation=WORKER.incarnation)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def roster(clock: Clock) -> Roster:
    return Roster(connect("redis://127.0.0.1:1"), "service", clock=clock)


def _read(roster: Roster, clock: Clock, during: Callable[[], None], *entries: Worker) -> None:
    """Let the roster read *entries*, and hear of something else before they arrive."""
    began_at = clock.now
    clock.now += 0.1
    during()
    clock.now += 0.1
    roster._replace(list(entries), began_at)


def test_a_worker_that_left_during_a_read_is_not_brought_back_by_it(
    roster: Roster, clock: Clock
) -> None:
    roster._hear(WORKER)
    clock.now += 1

    _read(roster, clock, lambda: roster._hear(FAREWELL), WORKER)

    assert not roster.workers


def test_a_load_heard_during_a_read_is_not_undone_by_it(roster: Roster, clock: Clock) -> None:
    roster._hear(WORKER)
    clock.now += 1

    _read(roster, clock, lambda: roster._hear(BUSY), WORKER)

    assert roster.workers == {WORKER.worker_id: BUSY}


def test_a_worker_that_joined_during_a_read_stays(roster: Roster, clock: Clock) -> None:
    _read(roster, clock, lambda: roster._hear(WORKER))

    assert roster.workers == {WORKER.worker_id: WORKER}


def test_a_read_brings_what_no_message_said(roster: Roster, clock: Clock) -> None:
    roster._hear(WORKER)
    clock.now += 1

    _read(roster, clock, lambda: None, BUSY)

    assert roster.workers == {WORKER.worker_id: BUSY}


def test_a_worker_that_a_read_misses_is_gone(roster: Roster, clock: Clock) -> None:
    roster._hear(WORKER)
    clock.now += 1

    _read(roster, clock, lambda: None)

    assert not roster.workers


@pytest.mark.parametrize(
    "message", [OLDER, Gone(worker_id=WORKER.worker_id, incarnation=OLDER.incarnation)]
)
def test_an_older_incarnation_is_not_heard(roster: Roster, message: Worker | Gone) -> None:
    roster._hear(WORKER)

    roster._hear(message)

    assert roster.workers == {WORKER.worker_id: WORKER}


def test_an_older_incarnation_is_not_heard_after_the_newer_has_left(roster: Roster) -> None:
    roster._hear(WORKER)
    roster._hear(FAREWELL)

    roster._hear(OLDER)

    assert not roster.workers


def test_one_that_has_gone_is_forgotten_when_redis_no_longer_fences_it(
    roster: Roster, clock: Clock
) -> None:
    roster._hear(WORKER)
    roster._hear(FAREWELL)

    clock.now += FENCE_SECONDS
    _read(roster, clock, lambda: None, OLDER)

    assert roster.workers == {WORKER.worker_id: OLDER}


def test_names_of_the_gone_do_not_pile_up(roster: Roster, clock: Clock) -> None:
    names = [WorkerId(f"worker-{number}") for number in range(100)]
    for name in names:
        roster._hear(msgspec.structs.replace(WORKER, worker_id=name))
    clock.now += 1
    _read(roster, clock, lambda: None, WORKER)

    clock.now += FENCE_SECONDS - 2
    _read(roster, clock, lambda: None, WORKER)
    before = len(roster._newest)
    clock.now += 2
    _read(roster, clock, lambda: None, WORKER)

    assert before == len(names)
    assert list(roster._newest) == list(roster._heard_at) == [WORKER.worker_id]
    assert roster.workers == {WORKER.worker_id: WORKER}


def test_one_that_is_there_is_not_forgotten(roster: Roster, clock: Clock) -> None:
    roster._hear(WORKER)

    clock.now += FENCE_SECONDS
    roster._hear(OLDER)

    assert roster.workers == {WORKER.worker_id: WORKER}


def test_followers_are_told_of_changes_and_of_nothing_else(clock: Clock) -> None:
    told: list[None] = []
    redis = connect("redis://127.0.0.1:1")
    roster = Roster(redis, "service", clock=clock, on_change=lambda *_: told.append(None))

    for message in (WORKER, WORKER, BUSY, FAREWELL, FAREWELL):
        roster._hear(message)

    assert len(told) == 3
