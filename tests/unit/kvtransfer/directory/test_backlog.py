import pytest

from twofold_kvtransfer.directory.backlog import Backlog


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backlog(clock: Clock) -> Backlog:
    return Backlog(clock)


def test_without_a_batch_nothing_is_late(backlog: Backlog) -> None:
    backlog.leave()
    backlog.settle(has_arrived=True)

    assert (backlog.arrived_count, backlog.lag_seconds()) == (0, 0.0)


def test_the_oldest_that_waits_says_how_late_it_is(backlog: Backlog, clock: Clock) -> None:
    backlog.add()
    clock.now += 2.0
    backlog.add()
    clock.now += 1.0

    assert backlog.lag_seconds() == 3.0


def test_what_is_on_its_way_is_late_until_it_arrives(backlog: Backlog, clock: Clock) -> None:
    backlog.add()
    backlog.leave()
    clock.now += 2.0
    backlog.add()
    clock.now += 1.0
    on_the_way = backlog.lag_seconds()

    backlog.settle(has_arrived=True)

    assert (on_the_way, backlog.lag_seconds()) == (3.0, 1.0)
    assert backlog.arrived_count == 1


def test_what_does_not_arrive_waits_again_since_it_was_heard(
    backlog: Backlog, clock: Clock
) -> None:
    backlog.add()
    backlog.leave()
    clock.now += 2.0
    backlog.add()

    backlog.settle(has_arrived=False)
    late = backlog.lag_seconds()
    backlog.leave()
    backlog.settle(has_arrived=True)

    assert late == 2.0
    assert (backlog.arrived_count, backlog.lag_seconds()) == (2, 0.0)
