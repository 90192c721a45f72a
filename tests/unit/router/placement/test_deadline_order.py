"""The order by deadline: as many as possible on time, the others not for ever."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from twofold_router.placement.deadline_order import ByDeadline
from twofold_router.placement.testing import make_waiting
from twofold_router.placement.waiting import Waiting

NOBODY: dict[str, int] = {}

Job = tuple[int, int]
"""Seconds it takes, and the moment at which it must be over."""

JOBS = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 30)), min_size=1, max_size=7)


def order(
    over: dict[str, int] = NOBODY, share: float = 1 / 16, overtaken_seconds: float = 1e9
) -> ByDeadline:
    return ByDeadline(lambda tenant: over.get(tenant, 0), share, overtaken_seconds)


def waiting(
    serial: int, seconds: float, until: float, arrived: float = 0.0, **kind: Any
) -> Waiting:
    made = make_waiting(serial, slo_seconds=until - arrived, arrived_at=arrived, **kind)
    made.seconds = float(seconds)
    return made


def serve_all(queue: ByDeadline, now: float = 0.0) -> list[tuple[Waiting, float]]:
    """Serve everybody, one after the other; return them with the moment each is over."""
    served = []
    while (first := queue.next(now)) is not None:
        queue.remove(first)
        now += first.seconds
        served.append((first, now))
    return served


def on_time(served: Sequence[tuple[Waiting, float]]) -> set[int]:
    return {each.serial for each, ends_at in served if ends_at <= each.on_time_until}


def most_on_time(jobs: Sequence[Job]) -> int:
    best = 0
    for permutation in itertools.permutations(jobs):
        ends = itertools.accumulate(seconds for seconds, _ in permutation)
        best = max(best, sum(end <= job[1] for end, job in zip(ends, permutation, strict=True)))
    return best


@given(JOBS)
@settings(max_examples=150, deadline=None)
def test_as_many_are_on_time_as_in_the_best_of_all_orders(jobs: list[Job]) -> None:
    queue = order()
    for serial, (seconds, until) in enumerate(jobs):
        queue.add(waiting(serial, seconds, until), 0.0)

    served = serve_all(queue)

    assert len(served) == len(jobs)
    assert len(on_time(served)) == most_on_time(jobs)


@given(JOBS, JOBS)
@settings(max_examples=100, deadline=None)
def test_a_lower_priority_never_makes_a_higher_one_late(high: list[Job], low: list[Job]) -> None:
    queue = order()
    for serial, (seconds, until) in enumerate(high):
        queue.add(waiting(serial, seconds, until, priority=1), 0.0)
    for serial, (seconds, until) in enumerate(low, start=len(high)):
        queue.add(waiting(serial, seconds, until, priority=0), 0.0)

    served = on_time(serve_all(queue))

    assert len(served & set(range(len(high)))) == most_on_time(high)


def test_of_a_tenant_that_had_more_than_its_share_somebody_is_put_off_first() -> None:
    queue = order({"greedy": 1})
    queue.add(waiting(1, 4, 8, tenant="modest"), 0.0)
    queue.add(waiting(2, 3, 8, tenant="greedy"), 0.0)
    queue.add(waiting(3, 3, 8, tenant="modest"), 0.0)

    assert on_time(serve_all(queue)) == {1, 3}


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9), st.integers(1, 40)), max_size=60))
@settings(max_examples=200)
def test_everybody_is_in_it_once_whatever_comes_and_goes(
    steps: list[tuple[bool, int, int]],
) -> None:
    queue = order(overtaken_seconds=3.0)
    inside: dict[int, Waiting] = {}
    for now, (leaves, seconds, patience) in enumerate(steps):
        if leaves and inside:
            leaving = inside.pop(list(inside)[seconds % len(inside)])
            queue.remove(leaving)
        else:
            coming = waiting(now, seconds, now + patience, arrived=now)
            inside[now] = coming
            queue.add(coming, now)
        if patience % 2:
            first = queue.next(now)
            assert first in inside.values() if inside else first is None

        assert len(queue) == len(inside)
        assert sorted(each.serial for each in queue.everyone()) == sorted(inside)
        planned = [entry[2] for entry in queue._plan]
        assert abs(queue.ahead_seconds - sum(each.seconds for each in planned)) < 1e-6
        for each in inside.values():
            own = each.seconds if each in planned else 0.0
            assert abs(queue.other_seconds(each) - (queue.ahead_seconds - own)) < 1e-9


def test_those_who_cannot_be_on_time_are_told_of_once_and_go_last() -> None:
    queue = order()
    late, early = waiting(1, 5, 4), waiting(2, 5, 9)
    queue.add(late, 0.0)
    queue.add(early, 0.0)

    assert queue.late() == [late]
    assert queue.late() == []
    assert [each.serial for each, _ in serve_all(queue)] == [2, 1]


def test_who_becomes_late_while_waiting_is_told_of() -> None:
    queue = order()
    queue.add(waiting(1, 1, 10), 0.0)
    assert queue.late() == []

    queue.next(9.5)

    assert [each.serial for each in queue.late()] == [1]


def test_who_was_put_off_is_late_when_it_cannot_be_on_time_if_it_would_rather_be_refused() -> None:
    queue = order()
    for serial in range(20):
        queue.add(waiting(serial, 5, 6, refuse_late=True), 0.0)
    first = queue.next(0.0)
    assert first is not None
    queue.remove(first)

    queue.next(5.0)

    assert {each.serial for each in queue.late()} == set(range(20)) - {first.serial}


def test_late_ones_go_by_priority_then_by_age() -> None:
    queue = order()
    for serial, priority in ((1, 0), (2, 1), (3, 0), (4, 1)):
        queue.add(waiting(serial, 5, 1, priority=priority), 0.0)

    assert [each.serial for each, _ in serve_all(queue)] == [2, 4, 1, 3]


def test_late_ones_of_a_tenant_that_had_more_than_its_share_go_after_those_of_others() -> None:
    queue = order(over={"greedy": 5, "less": 1})
    kinds = [("greedy", 0), ("less", 0), ("modest", 0), ("greedy", 1)]
    for serial, (tenant, priority) in enumerate(kinds):
        queue.add(waiting(serial, 5, 1, tenant=tenant, priority=priority), 0.0)

    assert [each.serial for each, _ in serve_all(queue)] == [3, 2, 1, 0]


def serve_under_load(queue: ByDeadline, seconds: int, start: int = 0) -> list[int]:
    """Have a punctual request of one second come each second; return who is served."""
    served = []
    for now in range(start, start + seconds):
        queue.add(waiting(1_000_000 + now, 1, now + 2, arrived=now), now)
        first = queue.next(now)
        assert first is not None
        queue.remove(first)
        served.append(first.serial)
    return served


def test_the_overtaken_get_their_share_of_the_time_and_no_more() -> None:
    queue = order(share=1 / 8, overtaken_seconds=30.0)
    for serial in range(200):
        queue.add(waiting(serial, 1, 0.5), 0.0)

    before = serve_under_load(queue, 30)
    after = serve_under_load(queue, 800, start=31)

    assert not [serial for serial in before if serial < 1_000_000]
    overtaken = [serial for serial in after if serial < 1_000_000]
    assert overtaken == list(range(len(overtaken)))  # the oldest first
    assert 80 <= len(overtaken) <= 800 / 8 + 1


def test_the_oldest_has_a_claim_on_those_of_a_higher_priority_too() -> None:
    queue = order(share=1 / 8, overtaken_seconds=30.0)
    queue.add(waiting(0, 1, 0.5), 0.0)

    served = []
    for now in range(1, 60):
        queue.add(waiting(now, 1, now + 0.5, arrived=now, priority=1), now)
        first = queue.next(now)
        assert first is not None
        queue.remove(first)
        served.append(first.serial)

    assert 30 + 8 <= served.index(0) <= 30 + 8 + 1


def test_nothing_is_saved_up_for_a_claim_that_nobody_has_yet() -> None:
    queue = order(share=1 / 8, overtaken_seconds=1_000.0)
    for serial in range(200):
        queue.add(waiting(serial, 1, 0.5), 0.0)
    serve_under_load(queue, 1_000)

    after = serve_under_load(queue, 80, start=1_001)

    assert len([serial for serial in after if serial < 1_000_000]) <= 80 / 8 + 1


def test_a_long_queue_is_not_planned_anew_at_every_event() -> None:
    rng = random.Random(1)
    queue = order()
    for serial in range(10_000):
        queue.add(waiting(serial, 1, rng.uniform(10, 20_000)), 0.0)
    plans: list[float] = []
    replan = queue._replan

    def count_and_replan(starts_at: float) -> None:
        plans.append(starts_at)
        replan(starts_at)

    queue._replan = count_and_replan  # type: ignore[method-assign]
    for serial in range(10_000, 11_000):
        first = queue.next(0.0)
        assert first is not None
        queue.remove(first)
        queue.add(waiting(serial, 1, rng.uniform(10, 20_000)), 0.0)

    assert len(plans) == 2


def test_memory_is_that_of_those_who_wait() -> None:
    queue = order()
    queue.add(waiting(0, 5, 1), 0.0)
    for serial in range(1, 5_000):
        late = waiting(serial, 5, 1)
        queue.add(late, 0.0)
        queue.late()
        queue.remove(late)

    assert len(queue._late_ranking._heap) < 100
