"""Workloads from a few numbers: bursts of arrivals, many short prompts and few long ones."""

import itertools
import random

from twofold_sim.workloads.distributions import gamma_gaps, zipf, zipf_tokens
from twofold_sim.workloads.prompt import BLOCK_TOKENS, Prompt
from twofold_sim.workloads.shape import Shape


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
