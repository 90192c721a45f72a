"""``twofold`` with one part switched off."""

import random

from twofold_router.placement.fairness import Shares
from twofold_router.placement.homes import Homes
from twofold_router.placement.interface import PlacementSettings
from twofold_router.placement.policy import MakePolicy
from twofold_router.placement.pools import Pool
from twofold_router.placement.testing import make_account, make_key, make_waiting
from twofold_sim.policies.ablations import (
    AffinityChoice,
    by_arrival,
    fixed_key,
    pair_only,
    without_cost,
    without_moves,
)


def pool(count: int = 20) -> Pool:
    made = Pool()
    made.add([make_account(f"w{number}") for number in range(count)])
    return made


def candidate_counts(make: MakePolicy, *, hot: bool) -> list[int]:
    policy = make(PlacementSettings(), Shares(), random.Random(1))
    workers = pool()
    if not hot:
        for account in workers.accounts:
            account.start_prefill("busy", 1e6, 0.0)
    found = []
    for number in range(100):
        key = make_key("hot") if hot else make_key(number)
        candidates, _ = policy.choose(make_waiting(number, key=key), workers, 0.0)
        found.append(len(candidates))
    return found


def test_pair_only_never_asks_more_than_two() -> None:
    assert set(candidate_counts(pair_only, hot=True)) == {2}
    assert set(candidate_counts(pair_only, hot=False)) == {2}


def test_the_others_ask_eight_when_all_are_overloaded() -> None:
    for make in (without_cost, by_arrival, without_moves, fixed_key):
        assert set(candidate_counts(make, hot=False)) == {8}


def test_a_fixed_key_stays_with_two_blocks_however_hot() -> None:
    policy = fixed_key(PlacementSettings(), Shares(), random.Random(1))
    workers = pool()
    for number in range(200):
        waiting = make_waiting(number, key=make_key("a", "b", "c", number))
        policy.choose(waiting, workers, 0.0)

        assert waiting.key == waiting.request.key.blocks[1]


def test_the_papers_choice_takes_the_longest_prefix_until_that_takes_too_long() -> None:
    workers, key = pool(), make_key("a", "b")
    choose = AffinityChoice(Homes(), theta_seconds=1.0)
    first, second = workers.homes(key.blocks[0], 2)
    second.mirror.hold(make_key("a"), 512)
    second.start_prefill("work", 5000.0, 0.0)

    _, chosen = choose(make_waiting(key=key), workers, 0.0)
    assert chosen is second

    second.start_prefill("more", 2000.0, 0.0)

    _, chosen = choose(make_waiting(key=key), workers, 0.0)
    assert chosen is first
