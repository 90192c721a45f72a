"""The policies to compare with."""

import random
from typing import Any

import msgspec

from twofold_cluster.identity import WorkerId
from twofold_cluster.worker import Load
from twofold_router.placement import baselines
from twofold_router.placement.choice import Choose
from twofold_router.placement.homes import Homes
from twofold_router.placement.pools import Pool
from twofold_router.placement.testing import make_account, make_key, make_waiting


def pool(count: int = 3) -> Pool:
    made = Pool()
    made.add([make_account(f"w{number}") for number in range(count)])
    return made


def choose(choice: Choose, workers: Pool, **changes: Any) -> str:
    candidates, chosen = choice(make_waiting(**changes), workers, 0.0)
    assert chosen in candidates
    return chosen.worker.worker_id


def test_round_robin_takes_the_workers_in_turn() -> None:
    choice, workers = baselines.round_robin(), pool()

    assert [choose(choice, workers) for _ in range(4)] == ["w0", "w1", "w2", "w0"]


def test_all_leave_out_those_to_be_avoided() -> None:
    workers = pool()
    avoid = frozenset({WorkerId("w0"), WorkerId("w2")})
    rng = random.Random(1)
    for choice in (
        baselines.round_robin(),
        baselines.least_loaded(),
        baselines.two_random(rng),
        baselines.one_ring(Homes()),
        baselines.min_ttft(),
    ):
        assert {choose(choice, workers, avoid=avoid) for _ in range(5)} == {"w1"}


def test_least_loaded_takes_the_least_work_whatever_is_cached() -> None:
    workers = pool()
    key = make_key("a")
    workers.accounts[0].mirror.hold(key, 512)
    workers.accounts[0].start_prefill("a", 10.0, 0.0)
    workers.accounts[1].enqueue(make_waiting(2, prompt_tokens=5.0), 0.0)
    choice = baselines.least_loaded()

    assert choose(choice, workers, key=key) == "w2"
    workers.accounts[2].start_prefill("b", 8.0, 0.0)
    assert choose(choice, workers, key=key) == "w1"


def test_equal_ones_are_told_apart_by_reported_load_then_by_the_last_turn() -> None:
    workers = pool()
    one, two, three = workers.accounts
    one.worker = msgspec.structs.replace(one.worker, load=Load(unprefilled_count=2))
    two.last_turn = 7
    assert choose(baselines.least_loaded(), workers) == "w2"

    three.worker = msgspec.structs.replace(three.worker, load=Load(waiting_count=1))

    assert choose(baselines.least_loaded(), workers) == "w1"


def test_two_random_takes_the_less_loaded_of_two() -> None:
    workers = pool()
    workers.accounts[1].start_prefill("a", 10.0, 0.0)
    choice = baselines.two_random(random.Random(1))

    chosen = {choose(choice, workers) for _ in range(50)}

    assert chosen == {"w0", "w2"}


def test_one_ring_stays_with_the_first_home_whatever_it_has_to_do() -> None:
    workers = pool(20)
    key = make_key("a", "b")
    home = workers.homes(key.blocks[0], 1)[0]
    home.start_prefill("a", 1e9, 0.0)

    assert choose(baselines.one_ring(Homes()), workers, key=key) == home.worker.worker_id


def test_min_ttft_weighs_what_is_cached_against_the_wait() -> None:
    workers = pool()
    key = make_key("a", "b")
    warm = workers.accounts[2]
    warm.mirror.hold(make_key("a"), 512)
    warm.start_prefill("work", 500.0, 0.0)
    assert choose(baselines.min_ttft(), workers, key=key) == "w2"

    warm.start_prefill("more", 20.0, 0.0)

    assert choose(baselines.min_ttft(), workers, key=key) == "w0"
