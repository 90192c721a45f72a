"""Workloads from a few numbers: bursts of arrivals, many short prompts and few long ones."""

import itertools
import random

import msgspec

from twofold_sim.workloads.distributions import gamma_gaps, zipf, zipf_tokens
from twofold_sim.workloads.prompt import BLOCK_TOKENS, Prompt


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What a generated workload is like."""

    qps: float = 10.0
    gap_variation: float = 1.0
    """Coefficient of variation of the time between arrivals; 1 is Poisson, more is bursts."""
    least_prompt_tokens: int = 128
    most_prompt_tokens: int = 32_768
    """Beside the prefix."""
    prompt_exponent: float = 1.0
    """Of Zipf's law: the larger, the fewer long ones."""
    least_output_tokens: int = 16
    most_output_tokens: int = 2_048
    output_exponent: float = 1.0
    prefix_count: int = 100
    prefix_blocks: int = 2
    """Of each prefix; 0: prompts share nothing."""
    prefix_exponent: float = 1.0
    """0: all prefixes are as frequent."""


def generate(shape: Shape, count: int, seed: int = 0) -> list[Prompt]:
    """Generate *count* prompts; the same for the same *shape* and *seed*."""
    rng = random.Random(seed)  # noqa: S311 - draws lengths, guards nothing
    draw_gap = gamma_gaps(shape.qps, shape.gap_variation)
    draw_prefix = zipf(shape.prefix_count, shape.prefix_exponent)
    draw_body = zipf_tokens(
        shape.least_prompt_tokens, shape.most_prompt_tokens, shape.prompt_exponent
    )
    draw_output = zipf_tokens(
        shape.least_output_tokens, shape.most_output_tokens, shape.output_exponent
    )
    new_block = itertools.count(shape.prefix_count * shape.prefix_blocks)
    prompts, at = [], 0.0
    for _ in range(count):
        first_id = draw_prefix(rng) * shape.prefix_blocks
        body_tokens = draw_body(rng)
        body_blocks = -(-body_tokens // BLOCK_TOKENS)
        prompts.append(
            Prompt(
                at=at,
                prompt_tokens=shape.prefix_blocks * BLOCK_TOKENS + body_tokens,
                output_tokens=draw_output(rng),
                block_ids=(
                    *range(first_id, first_id + shape.prefix_blocks),
                    *itertools.islice(new_block, body_blocks),
                ),
            )
        )
        at += draw_gap(rng)
    return prompts
