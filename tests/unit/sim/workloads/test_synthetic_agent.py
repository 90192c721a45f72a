"""The synthetic workload against the published shape."""

from collections import Counter
from statistics import fmean

import pytest

from twofold_sim.workloads import Prompt, hit_rate_ceiling, synthetic_agent
from twofold_sim.workloads.synthetic_agent import LONGEST_PROMPT_TOKENS, REQUESTS_PER_HOUR


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return synthetic_agent()


def test_an_hour_has_the_published_number_of_requests(prompts: list[Prompt]) -> None:
    assert len(prompts) == REQUESTS_PER_HOUR == 23_608
    assert prompts[-1].at == pytest.approx(3600, rel=0.03)


def test_the_mean_lengths_are_those_published(prompts: list[Prompt]) -> None:
    assert fmean(p.prompt_tokens for p in prompts) == pytest.approx(8_596, rel=0.03)
    assert fmean(p.output_tokens for p in prompts) == pytest.approx(182, rel=0.03)
    assert max(p.prompt_tokens for p in prompts) <= LONGEST_PROMPT_TOKENS


def test_the_cacheable_share_is_that_published(prompts: list[Prompt]) -> None:
    assert hit_rate_ceiling(prompts) == pytest.approx(0.59, abs=0.01)


def test_two_prefixes_are_as_frequent_and_as_long_as_published(prompts: list[Prompt]) -> None:
    def shares(blocks: int) -> list[tuple[int, float]]:
        counts = Counter(p.block_ids[:blocks] for p in prompts if len(p.block_ids) >= blocks)
        return [(blocks, count / len(prompts)) for _, count in counts.most_common(3)]

    (_, second), (_, third), (_, rest) = shares(2)
    assert second == pytest.approx(0.378, abs=0.01)
    assert third == pytest.approx(0.149, abs=0.01)
    assert rest < 0.01
    assert shares(6)[1][1] == pytest.approx(0.149, abs=0.01)
    assert shares(7)[1][1] < 0.01
    assert shares(13)[0][1] == pytest.approx(0.378, abs=0.01)
    assert shares(14)[0][1] < 0.01


def test_the_rest_share_the_first_block_only(prompts: list[Prompt]) -> None:
    assert {p.block_ids[0] for p in prompts} == {0}


def test_blocks_are_as_many_as_the_tokens_ask_for(prompts: list[Prompt]) -> None:
    assert all(len(p.block_ids) == -(-p.prompt_tokens // 512) for p in prompts)


def test_arrivals_are_in_order_and_begin_at_zero(prompts: list[Prompt]) -> None:
    times = [p.at for p in prompts]

    assert times[0] == 0.0
    assert times == sorted(times)


def test_a_seed_makes_the_same_workload_again() -> None:
    assert synthetic_agent(300, seed=5) == synthetic_agent(300, seed=5)
    assert synthetic_agent(300, seed=5) != synthetic_agent(300, seed=6)
    assert synthetic_agent(600, seed=5)[:300] == synthetic_agent(300, seed=5)
