"""The choice among a key's homes: the paper's, and ours."""

import random
from typing import Any

import msgspec
import pytest

from twofold_cluster.identity import Role
from twofold_cluster.worker import Load
from twofold_router.placement.accounts import Account
from twofold_router.placement.choice import CostChoice, PairChoice
from twofold_router.placement.homes import Homes
from twofold_router.placement.pools import Pool
from twofold_router.placement.pull_speed import PullSpeed
from twofold_router.placement.testing import make_account, make_key, make_waiting
from twofold_router.placement.waiting import Waiting

PROMPT = make_key("a", "b", "c", "d")
"""2048 tokens."""


def pool(count: int = 20, role: Role = Role.PREFILL) -> Pool:
    """Make one of workers that take a millisecond a token."""
    made = Pool()
    made.add([make_account(f"w{number}", role) for number in range(count)])
    for account in made.accounts:
        account.speed.announce(0.001)
    return made


def arriving(**changes: Any) -> Waiting:
    return make_waiting(key=PROMPT, slo_seconds=5.0, **changes)


def homes_of(workers: Pool, count: int) -> list[Account]:
    return workers.homes(PROMPT.blocks[0], count)


def load(account: Account, seconds: float) -> None:
    """Give *account* work for so long."""
    account.start_prefill(f"work {len(account.unprefilled)}", seconds * 1000, 0.0)


def pair_choice(theta_seconds: float = 5.0, seed: int = 1) -> PairChoice:
    return PairChoice(Homes(), random.Random(seed), theta_seconds)


def cost_choice() -> CostChoice:
    return CostChoice(Homes())


def test_the_pair_goes_by_the_longer_prefix_while_that_is_quick_enough() -> None:
    workers = pool()
    cold, warm = homes_of(workers, 2)
    warm.mirror.hold(PROMPT, 2048)
    load(warm, 4.5)

    candidates, chosen = pair_choice()(arriving(), workers, 0.0)

    assert (list(candidates), chosen) == ([cold, warm], warm)


def test_beyond_theta_the_pair_goes_by_the_time_to_the_first_token() -> None:
    workers = pool()
    cold, warm = homes_of(workers, 2)
    warm.mirror.hold(PROMPT, 2048)
    load(warm, 5.1)

    assert pair_choice()(arriving(), workers, 0.0)[1] is cold
    load(cold, 9.0)
    assert pair_choice()(arriving(), workers, 0.0)[1] is warm


def test_half_of_theta_gives_way_earlier() -> None:
    workers = pool()
    cold, warm = homes_of(workers, 2)
    warm.mirror.hold(PROMPT, 2048)
    load(warm, 3.0)

    assert pair_choice(theta_seconds=2.5)(arriving(), workers, 0.0)[1] is cold


def test_of_equal_ones_the_pair_takes_the_one_with_fewer_running_blocks() -> None:
    workers = pool()
    first, second = homes_of(workers, 2)
    first.worker = msgspec.structs.replace(first.worker, load=Load(kv_used_fraction=0.5))

    assert all(pair_choice(seed=s)(arriving(), workers, 0.0)[1] is second for s in range(9))


def test_of_entirely_equal_ones_chance_takes_one() -> None:
    workers = pool()

    chosen = {id(pair_choice(seed=seed)(arriving(), workers, 0.0)[1]) for seed in range(20)}

    assert chosen == set(map(id, homes_of(workers, 2)))


def test_computing_again_costs_four_times_its_time() -> None:
    workers = pool()
    cold, warm = homes_of(workers, 2)
    warm.mirror.hold(make_key("a", "b"), 1024)
    # 1.024 s of computing saved weigh as much as 4.096 s of waiting.
    load(warm, 4.0)
    patient = {"ttft_slo_seconds": 60.0}
    assert cost_choice()(arriving(**patient), workers, 0.0)[1] is warm

    load(warm, 0.2)

    assert cost_choice()(arriving(**patient), workers, 0.0)[1] is cold


def test_where_answers_are_generated_too_those_of_others_count() -> None:
    workers = pool(role=Role.BOTH)
    idle, warm = homes_of(workers, 2)
    warm.mirror.hold(make_key("a"), 512)  # saves half a second, which weighs four times
    assert cost_choice()(arriving(), workers, 0.0)[1] is warm

    for number in range(100):  # make each token a hundredth of a second longer, as is assumed
        warm.batch.admit(f"running {number}", 100, 300, 300)

    assert cost_choice()(arriving(), workers, 0.0)[1] is idle
    assert cost_choice()(arriving(max_output_tokens=100), workers, 0.0)[1] is warm


def test_answers_take_no_time_where_none_are_generated() -> None:
    prefilling, both = make_account("p"), make_account("b", Role.BOTH)
    short, long = (arriving(max_output_tokens=tokens) for tokens in (1, 30))

    assert prefilling.answer_seconds(long, 0.0) == 0
    assert both.answer_seconds(long, 0.0) == pytest.approx(30 * both.answer_seconds(short, 0.0))


@pytest.mark.parametrize(("busy", "expected"), [(0, 2), (1, 2), (2, 8), (8, 8)])
def test_more_homes_are_asked_when_the_request_would_wait_at_both(busy: int, expected: int) -> None:
    workers = pool()
    for home in homes_of(workers, busy):
        load(home, 100.0)

    candidates, chosen = cost_choice()(arriving(), workers, 0.0)

    assert list(candidates) == homes_of(workers, expected)
    assert chosen in candidates
    assert chosen.unprefilled == {} or busy == 8


def test_somebody_who_is_no_home_is_never_asked() -> None:
    workers = pool(20)
    for home in homes_of(workers, 8):
        load(home, 100.0)

    _, chosen = cost_choice()(arriving(), workers, 0.0)

    assert chosen in homes_of(workers, 8)


def test_where_the_same_beginning_went_last_is_asked_wherever_it_is() -> None:
    workers, choice = pool(20), cost_choice()
    elsewhere = next(each for each in workers.accounts if each not in homes_of(workers, 8))
    choice.homes.take(arriving(), elsewhere, workers)
    elsewhere.mirror.hold(PROMPT, 2048)

    candidates, chosen = choice(arriving(), workers, 0.0)

    assert list(candidates) == [*homes_of(workers, 2), elsewhere]
    assert chosen is elsewhere


def test_requests_that_come_together_with_a_beginning_in_common_meet() -> None:
    workers, choice = pool(20), cost_choice()
    chosen = []
    for number in range(3):
        waiting = make_waiting(number, key=make_key("a", "b", "c", "d", number), slo_seconds=60.0)
        _, account = choice(waiting, workers, 0.0)
        account.enqueue(waiting, 0.0)
        chosen.append(account)

    # Waiting for one or two others costs less than to compute four blocks again.
    assert len(set(map(id, chosen))) == 1


def test_the_only_worker_is_chosen_whatever_it_has_to_do() -> None:
    workers = pool(1)
    load(workers.accounts[0], 100.0)

    for choice in (cost_choice(), pair_choice()):
        assert choice(arriving(), workers, 0.0) == ([workers.accounts[0]], workers.accounts[0])


def test_a_dearer_home_where_it_is_on_time_comes_before_a_cheaper_one_where_it_is_late() -> None:
    workers = pool()
    cold, warm = homes_of(workers, 2)
    warm.mirror.hold(PROMPT, 2048)
    load(warm, 5.1)
    assert cost_choice()(arriving(ttft_slo_seconds=6.0), workers, 0.0)[1] is warm

    assert cost_choice()(arriving(ttft_slo_seconds=5.0), workers, 0.0)[1] is cold


def fetching_pool() -> tuple[Pool, Account, Account]:
    """Make one of workers that can fetch from each other, and return the prompt's homes; the second
    has it and is busy for 4 s."""
    workers = Pool()
    workers.add([make_account(f"w{n}", side_channel=f"w{n}.example:1") for n in range(20)])
    statistics = workers.accounts[0].statistics
    for account in workers.accounts:
        account.speed.announce(0.001)
        account.statistics = statistics
        account.pull_speed = PullSpeed(statistics.pull_speed)
    cold, warm = homes_of(workers, 2)
    warm.mirror.hold(PROMPT, 2048)
    load(warm, 4.0)
    return workers, cold, warm


def test_a_cold_home_costs_what_it_takes_to_fetch_once_somebody_has_fetched() -> None:
    workers, cold, warm = fetching_pool()
    patient = {"ttft_slo_seconds": 60.0}
    assert cost_choice()(arriving(**patient), workers, 0.0)[1] is warm

    workers.accounts[-1].pull_speed.observe(0.1, 1000)

    assert cost_choice()(arriving(**patient), workers, 0.0)[1] is cold


def test_a_slow_way_to_fetch_changes_nothing() -> None:
    workers, _, warm = fetching_pool()
    workers.accounts[-1].pull_speed.observe(0.9, 1000)

    assert cost_choice()(arriving(ttft_slo_seconds=60.0), workers, 0.0)[1] is warm


def test_where_nobody_asked_holds_it_nothing_is_fetched() -> None:
    workers, cold, warm = fetching_pool()
    workers.accounts[-1].pull_speed.observe(0.1, 1000)
    warm.mirror.clear()
    warm.mirror.hold(make_key("a", "b"), 1024)

    waiting = arriving(ttft_slo_seconds=60.0)
    cost_choice()(waiting, workers, 0.0)

    assert set(waiting.held_tokens.values()) == {1024}
    assert cold.work_tokens(waiting, 2048) == pytest.approx(1024 + 1024 / 10)


@pytest.mark.parametrize("theta_seconds", [2.5, 5.0])
def test_the_papers_choice_knows_of_no_fetching(theta_seconds: float) -> None:
    workers, cold, warm = fetching_pool()
    for account in workers.accounts:
        account.pull_speed.observe(0.001, 1000)

    waiting = arriving()
    _, chosen = pair_choice(theta_seconds)(waiting, workers, 0.0)

    assert chosen is (warm if theta_seconds == 5.0 else cold)
    assert waiting.held_tokens == {}
