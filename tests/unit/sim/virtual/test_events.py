"""Events in virtual time."""

import pytest

from twofold_sim.virtual.events import EventQueue


def test_events_happen_in_the_order_of_their_moments() -> None:
    queue = EventQueue()
    seen: list[tuple[str, float]] = []

    def happen(name: str, now: float) -> None:
        seen.append((name, now))

    queue.add(2.0, happen, "late")
    queue.add(1.0, happen, "early")
    queue.run()

    assert seen == [("early", 1.0), ("late", 2.0)]


def test_events_of_one_moment_happen_in_the_order_they_were_added() -> None:
    queue = EventQueue()
    seen: list[int] = []

    def happen(number: int, now: float) -> None:
        seen.append(number)
        if number == 0:
            queue.add(now, happen, 99)

    for number in range(5):
        queue.add(1.0, happen, number)
    queue.run()

    assert seen == [0, 1, 2, 3, 4, 99]


def test_nothing_can_happen_in_the_past() -> None:
    queue = EventQueue()

    def happen(now: float) -> None:
        queue.add(now - 0.5, happen)

    queue.add(1.0, happen)

    with pytest.raises(AssertionError):
        queue.run()
