"""AIBrix's rule, on a few workers."""

import random

from twofold_cluster.identity import WorkerId
from twofold_router.placement.choice import Choose
from twofold_router.placement.pools import Pool
from twofold_router.placement.testing import make_account, make_key, make_waiting
from twofold_sim.policies.aibrix import prefix_cache


def pool(*counts: int) -> Pool:
    """Make workers with so many requests in flight each."""
    made = Pool()
    made.add([make_account(f"w{number}", capacity=10**6) for number in range(len(counts))])
    for account, count in zip(made.accounts, counts, strict=True):
        load(account.worker.worker_id, made, count)
    return made


def load(worker_id: str, workers: Pool, count: int) -> None:
    account = workers.by_id[worker_id]
    account.unprefilled.clear()
    for number in range(count):
        account.start_prefill(str(number), 1.0, 0.0)


def send(choose: Choose, workers: Pool, *blocks: object, only: str | None = None) -> str:
    """Place a prompt of *blocks*; *only* one worker may have it."""
    avoid = {WorkerId(w) for w in workers.by_id if only is not None and w != only}
    waiting = make_waiting(key=make_key(*blocks), avoid=frozenset(avoid))
    _, chosen = choose(waiting, workers, 0.0)
    return chosen.worker.worker_id


def make_choice() -> Choose:
    return prefix_cache(random.Random(1))


def test_the_largest_part_of_the_prompt_decides() -> None:
    choose, workers = make_choice(), pool(2, 2, 2)
    send(choose, workers, "a", only="w0")
    send(choose, workers, "a", "b", only="w1")

    assert send(choose, workers, "a", "b", "c") == "w1"


def test_of_equal_parts_fewer_requests_decide() -> None:
    choose, workers = make_choice(), pool(3, 2, 1)
    send(choose, workers, "a", "b", only="w0")
    send(choose, workers, "a", "b", only="w1")

    assert send(choose, workers, "a", "b", "c") == "w1"


def test_parts_within_a_per_cent_are_equal() -> None:
    choose, workers = make_choice(), pool(3, 2, 0)
    blocks = list(range(250))
    send(choose, workers, *blocks[:241], only="w0")
    send(choose, workers, *blocks[:240], only="w1")

    assert send(choose, workers, *blocks) == "w1"


def test_more_requests_than_the_mean_and_a_deviation_pass_the_prompt_on() -> None:
    # The mean is 3 and the deviation of the sample 2, so that 5 may and 6 may not.
    choose, workers = make_choice(), pool(5, 3, 1)
    send(choose, workers, "a", "b", only="w0")
    send(choose, workers, "a", only="w1")
    assert send(choose, workers, "a", "b", "c") == "w0"

    load("w0", workers, 6)

    assert send(choose, workers, "a", "b", "d") == "w1"


def test_who_has_nothing_goes_to_the_fewest_requests() -> None:
    choose, workers = make_choice(), pool(3, 1, 2)

    assert send(choose, workers, "new") == "w1"


def test_of_several_with_the_fewest_requests_chance_decides() -> None:
    choose, workers = make_choice(), pool(1, 1, 2)

    assert {send(choose, workers, f"new {number}") for number in range(20)} == {"w0", "w1"}


def test_beyond_a_difference_of_eight_only_the_fewest_requests_count() -> None:
    choose = make_choice()
    workers = pool(0, 0, 7, 8)
    send(choose, workers, "a", "b", only="w2")
    assert send(choose, workers, "a", "b") == "w2"

    load("w3", workers, 9)

    assert send(choose, workers, "a", "b", "c") in {"w0", "w1"}


def test_of_the_fewest_the_one_with_the_prefix_is_preferred() -> None:
    choose, workers = make_choice(), pool(0, 0, 9)
    send(choose, workers, "a", only="w1")

    assert {send(choose, workers, "a", number) for number in range(10)} == {"w1"}
