"""Preble's rule, on a few workers."""

from itertools import pairwise

import pytest

from twofold_cluster.identity import Role, WorkerId
from twofold_router.placement.choice import Choose
from twofold_router.placement.orders import Order
from twofold_router.placement.pools import Pool
from twofold_router.placement.testing import make_account, make_key, make_waiting
from twofold_sim.policies.preble import WINDOW_SECONDS, ByHitGroup, exploit_or_explore


def pool(count: int = 3, capacity: int = 10**6, role: Role = Role.PREFILL) -> Pool:
    made = Pool()
    made.add([make_account(f"w{number}", role, capacity=capacity) for number in range(count)])
    return made


def send(
    choose: Choose, workers: Pool, *blocks: object, only: str | None = None, now: float = 0.0
) -> str:
    """Place a prompt of *blocks*; *only* one worker may have it."""
    avoid = {WorkerId(w) for w in workers.by_id if only is not None and w != only}
    waiting = make_waiting(key=make_key(*blocks), avoid=frozenset(avoid))
    candidates, chosen = choose(waiting, workers, now)
    assert candidates == (chosen,)
    return chosen.worker.worker_id


def load(choose: Choose, workers: Pool, worker_id: str, blocks: int, now: float = 0.0) -> None:
    """Give a worker something of so many blocks that nobody else has."""
    names = [f"{worker_id} {blocks} {now} {number}" for number in range(blocks)]
    send(choose, workers, *names, only=worker_id, now=now)


def test_what_is_mostly_cached_is_exploited_whatever_the_load() -> None:
    choose, workers = exploit_or_explore(), pool()
    send(choose, workers, "a", "b", only="w0")
    load(choose, workers, "w1", 2)
    load(choose, workers, "w2", 2)
    load(choose, workers, "w0", 1)

    assert send(choose, workers, "a", "b", "c") == "w0"


def test_what_is_half_cached_is_explored() -> None:
    choose, workers = exploit_or_explore(), pool(2)
    send(choose, workers, "a", "b", only="w0")
    load(choose, workers, "w1", 1)
    load(choose, workers, "w0", 2)

    assert send(choose, workers, "a", "b", "c", "d") == "w1"


def test_exploring_counts_what_is_cached_as_well() -> None:
    choose, workers = exploit_or_explore(), pool(2)
    send(choose, workers, "a", only="w0")

    assert send(choose, workers, "a", "b") == "w0"


def test_of_those_that_have_it_the_one_with_less_load_is_exploited() -> None:
    choose, workers = exploit_or_explore(), pool()
    send(choose, workers, "a", "b", only="w0")
    send(choose, workers, "a", "b", only="w1")
    load(choose, workers, "w2", 4)
    load(choose, workers, "w0", 1)

    assert send(choose, workers, "a", "b") == "w1"


def test_the_load_is_what_was_given_in_the_last_three_minutes() -> None:
    choose, workers = exploit_or_explore(), pool(2)
    load(choose, workers, "w0", 9, now=0.0)
    load(choose, workers, "w1", 4, now=1.0)
    assert send(choose, workers, "new", now=WINDOW_SECONDS) == "w1"

    assert send(choose, workers, "newer", now=WINDOW_SECONDS + 0.5) == "w0"


def test_beyond_half_as_much_again_as_the_least_load_it_goes_there() -> None:
    choose, workers = exploit_or_explore(), pool(2)
    send(choose, workers, "a", "b", "c", only="w0")
    load(choose, workers, "w1", 2)
    assert send(choose, workers, "a", "b", "c") == "w0"

    load(choose, workers, "w0", 1)

    assert send(choose, workers, "a", "b", "c") == "w1"


def test_it_stays_when_another_worker_is_the_overloaded_one() -> None:
    choose, workers = exploit_or_explore(), pool()
    send(choose, workers, "a", "b", only="w0")
    load(choose, workers, "w1", 9)
    load(choose, workers, "w2", 1)

    assert send(choose, workers, "a", "b") == "w0"


def test_the_copy_made_so_is_exploited_too() -> None:
    choose, workers = exploit_or_explore(), pool(2)
    send(choose, workers, "a", "b", "c", only="w0")
    assert send(choose, workers, "a", "b", "c") == "w1"
    load(choose, workers, "w1", 1)
    assert send(choose, workers, "a", "b", "c") == "w0"
    load(choose, workers, "w0", 2)

    assert send(choose, workers, "a", "b", "c") == "w1"


def test_evicting_what_many_share_costs_more() -> None:
    choose, workers = exploit_or_explore(counts_pending=True), pool(2, capacity=1024)
    for _ in range(5):
        send(choose, workers, "hot", "x", only="w0")
    send(choose, workers, "cold", "y", only="w1")
    # A block is 512 tokens, and 5 of 6 requests have the hot one.
    workers.accounts[1].start_prefill("r", 300.0, 0.0)
    assert send(choose, workers, "new") == "w1"

    workers.accounts[1].start_prefill("s", 400.0, 0.0)

    assert send(choose, workers, "newer") == "w0"


def test_a_lone_request_of_a_worker_that_decodes_costs_its_decoding_too() -> None:
    choose, workers = exploit_or_explore(), pool(2, role=Role.BOTH)
    load(choose, workers, "w0", 1)
    load(choose, workers, "w1", 4)

    assert send(choose, workers, "new") == "w0"
    # Now it has two outputs to generate, which outweighs the prompts.
    assert send(choose, workers, "newer") == "w1"


def test_what_is_pending_is_the_load_when_told() -> None:
    choose, workers = exploit_or_explore(counts_pending=True), pool(2)
    load(choose, workers, "w0", 50)
    workers.accounts[1].start_prefill("r", 600.0, 0.0)

    assert send(choose, workers, "new") == "w0"


def queue(*cached: float) -> Order:
    """Make a queue of requests with such shares of their prompts cached."""
    made = ByHitGroup()
    for serial, share in enumerate(cached):
        waiting = make_waiting(serial, prompt_tokens=1000.0)
        waiting.uncached_tokens = 1000.0 * (1 - share)
        waiting.seconds = 1.0
        made.add(waiting, 0.0)
    return made


def served(order: Order) -> list[int]:
    serials = []
    while (waiting := order.next(0.0)) is not None:
        assert order.next(0.0) is waiting
        order.remove(waiting)
        serials.append(waiting.serial)
    return serials


def test_the_larger_the_cached_share_the_earlier() -> None:
    assert served(queue(0.0, 0.55, 0.95, 0.15)) == [2, 1, 3, 0]


def test_of_one_group_they_go_by_arrival() -> None:
    assert served(queue(0.91, 0.99, 0.95)) == [0, 1, 2]


def test_of_55_ten_are_of_the_first_group_and_nine_of_the_second() -> None:
    shares = [0.95] * 30 + [0.85] * 30 + [0.05] * 30
    groups = [serial // 30 for serial in served(queue(*shares))]

    assert groups[:20] == [0] * 10 + [1] * 9 + [2]
    assert groups[20:40] == [0] * 10 + [1] * 9 + [2]
    changes = sum(one != other for one, other in pairwise(groups[:60]))
    assert changes == 8


def test_whoever_leaves_is_not_there_any_more() -> None:
    order = queue(0.5, 0.6)
    first = order.next(0.0)
    assert first is not None
    assert (len(order), order.ahead_seconds, order.other_seconds(first)) == (2, 2.0, 1.0)

    order.remove(first)

    assert (len(order), order.ahead_seconds) == (1, 1.0)
    assert [waiting.serial for waiting in order.everyone()] == [0]
    with pytest.raises(KeyError):
        order.remove(first)
