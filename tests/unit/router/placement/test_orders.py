"""The two simple orders."""

import pytest

from twofold_router.placement.orders import ByArrival, ByCachedPrefix, Order
from twofold_router.placement.testing import make_waiting
from twofold_router.placement.waiting import Waiting


def waiting(serial: int, cached: float = 0.0, seconds: float = 1.0) -> Waiting:
    made = make_waiting(serial, prompt_tokens=1000.0)
    made.uncached_tokens = 1000.0 - cached
    made.seconds = seconds
    return made


def serve_all(order: Order) -> list[int]:
    served = []
    while (first := order.next(0.0)) is not None:
        order.remove(first)
        served.append(first.serial)
    return served


def test_first_come_first_served() -> None:
    order = ByArrival()
    for serial in (1, 2, 3):
        order.add(waiting(serial, cached=100.0 * serial), 0.0)

    assert serve_all(order) == [1, 2, 3]


def test_the_longest_cached_prefix_goes_first_then_the_first_to_come() -> None:
    order = ByCachedPrefix()
    for serial, cached in ((1, 0.0), (2, 512.0), (3, 900.0), (4, 512.0)):
        order.add(waiting(serial, cached), 0.0)

    assert serve_all(order) == [3, 2, 4, 1]


@pytest.mark.parametrize("make", [ByArrival, ByCachedPrefix])
def test_one_who_left_is_not_served_and_no_work_for_others(make: type[ByArrival]) -> None:
    order = make()
    leaving, staying = waiting(1, 900.0, seconds=0.1), waiting(2, seconds=0.2)
    order.add(leaving, 0.0)
    order.add(staying, 0.0)
    assert order.ahead_seconds == pytest.approx(0.3)
    assert order.other_seconds(staying) == pytest.approx(0.1)

    order.remove(leaving)

    assert (len(order), list(order.everyone())) == (1, [staying])
    assert order.next(0.0) is staying
    order.remove(staying)
    assert order.ahead_seconds == 0.0


def test_who_comes_back_is_served_once() -> None:
    order = ByCachedPrefix()
    back = waiting(1)
    for _ in range(3):
        order.add(back, 0.0)
        order.remove(back)
    order.add(back, 0.0)

    assert serve_all(order) == [1]


def test_those_turned_away_behind_a_long_queue_are_not_kept() -> None:
    order = ByCachedPrefix()
    order.add(waiting(0, cached=900.0), 0.0)
    for serial in range(1, 5_000):
        last = waiting(serial)
        order.add(last, 0.0)
        order.remove(last)

    assert len(order._ranking._heap) < 100
