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
    PaperChoice,
    by_arrival,
    fixed_key,
    pair_only,
    papers_choice,
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
    for make in (without_cost, papers_choice, by_arrival, without_moves, fixed_key):
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
    choose = PaperChoice(Homes(), theta_seconds=1.0)
    first, second = workers.homes(key.blocks[0], 2)
    second.mirror.hold(make_key("a"), 512)
    second.start_prefill("work", 5000.0, 0.0)

    _, chosen = choose(make_waiting(key=key), workers, 0.0)
    assert chosen is second

    second.start_prefill("more", 2000.0, 0.0)

    _, chosen = choose(make_waiting(key=key), workers, 0.0)
    assert chosen is first


def test_without_the_cost_the_longest_prefix_is_taken_where_it_is_on_time() -> None:
    workers, key = pool(), make_key("a", "b")
    choose = AffinityChoice(Homes())
    first, second = workers.homes(key.blocks[0], 2)
    for account in workers.accounts:
        account.speed.announce(0.001)
    second.mirror.hold(make_key("a"), 512)
    second.start_prefill("work", 3000.0, 0.0)

    # By the cost it would be the other: computing a block again is worth less than 3 s.
    _, chosen = choose(make_waiting(key=key, slo_seconds=5.0), workers, 0.0)
    assert chosen is second

    _, chosen = choose(make_waiting(key=key, slo_seconds=3.0), workers, 0.0)
    assert chosen is first


def test_without_the_cost_those_are_asked_that_it_asks() -> None:
    workers, key = pool(), make_key("a", "b")
    for account in workers.accounts:
        account.speed.announce(0.001)
    choose = AffinityChoice(Homes())
    homes = workers.homes(key.blocks[0], 2)
    elsewhere = next(a for a in workers.accounts if a not in workers.homes(key.blocks[0], 8))
    elsewhere.mirror.hold(key, 1024)
    choose.homes.find_key(make_waiting(key=key), workers)
    choose.homes.take(make_waiting(key=key), elsewhere, workers)

    asked, chosen = choose(make_waiting(key=key), workers, 0.0)

    assert list(asked) == [*homes, elsewhere]
    assert chosen is elsewhere


def test_without_the_cost_what_waits_to_be_computed_counts_as_cached() -> None:
    workers, key = pool(), make_key("a", "b")
    choose = AffinityChoice(Homes())
    _, second = workers.homes(key.blocks[0], 2)
    second.start_prefill("work", 100.0, 0.0)
    second.enqueue(make_waiting(1, key=key), 0.0)

    assert choose(make_waiting(2, key=key), workers, 0.0)[1] is second
