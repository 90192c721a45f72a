"""Workloads from a few numbers."""

import random
from collections import Counter
from statistics import fmean, pstdev

import pytest

from twofold_sim.workloads import Shape, generate, qps_of
from twofold_sim.workloads.distributions import gamma_gaps, lognormal_tokens, zipf, zipf_tokens

COUNT = 20_000


@pytest.mark.parametrize("variation", [0.5, 1.0, 3.0])
def test_gaps_have_the_rate_and_the_variation(variation: float) -> None:
    rng, draw = random.Random(1), gamma_gaps(5.0, variation)
    gaps = [draw(rng) for _ in range(COUNT)]

    assert fmean(gaps) == pytest.approx(0.2, rel=0.05)
    assert pstdev(gaps) / fmean(gaps) == pytest.approx(variation, rel=0.05)


def test_the_first_of_zipfs_numbers_is_twice_as_frequent_as_the_second() -> None:
    rng, draw = random.Random(1), zipf(10, 1.0)
    counts = Counter(draw(rng) for _ in range(COUNT))

    assert counts.keys() == set(range(10))
    assert counts[0] / counts[1] == pytest.approx(2.0, rel=0.1)
    assert counts[0] / counts[9] == pytest.approx(10.0, rel=0.2)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_lengths_follow_the_power_law_between_their_bounds(exponent: float) -> None:
    rng, draw = random.Random(1), zipf_tokens(10, 1000, exponent)
    lengths = [draw(rng) for _ in range(COUNT)]
    mean = sum(n ** (1 - exponent) for n in range(10, 1001)) / sum(
        n**-exponent for n in range(10, 1001)
    )

    assert min(lengths) >= 10
    assert max(lengths) <= 1000
    assert fmean(lengths) == pytest.approx(mean, rel=0.05)
    assert {zipf_tokens(7, 7, exponent)(rng) for _ in range(10)} == {7}


def test_lognormal_lengths_have_the_mean() -> None:
    rng, draw = random.Random(1), lognormal_tokens(500.0, 0.9)

    assert fmean(draw(rng) for _ in range(COUNT)) == pytest.approx(500.0, rel=0.05)


def test_a_seed_makes_the_same_workload_again() -> None:
    assert generate(Shape(), 50, seed=3) == generate(Shape(), 50, seed=3)
    assert generate(Shape(), 50, seed=3) != generate(Shape(), 50, seed=4)
    assert generate(Shape(), 100, seed=3)[:50] == generate(Shape(), 50, seed=3)


def test_prompts_share_their_prefix_and_nothing_else() -> None:
    prompts = generate(Shape(prefix_count=3, prefix_blocks=2), 200)
    prefixes = {prompt.block_ids[:2] for prompt in prompts}
    bodies = [block for prompt in prompts for block in prompt.block_ids[2:]]

    assert prefixes == {(0, 1), (2, 3), (4, 5)}
    assert len(set(bodies)) == len(bodies)
    assert min(bodies) > 5
    assert all(len(p.block_ids) == -(-p.prompt_tokens // 512) for p in prompts)


def test_without_prefix_blocks_nothing_is_shared() -> None:
    prompts = generate(Shape(prefix_blocks=0), 50)
    blocks = [block for prompt in prompts for block in prompt.block_ids]

    assert len(set(blocks)) == len(blocks)


def test_the_rate_is_that_of_the_shape() -> None:
    assert qps_of(generate(Shape(qps=3.0, gap_variation=2.0), 5_000)) == pytest.approx(3.0, rel=0.1)
