"""A workload after the published shape of Mooncake's tool-and-agent trace. It is synthetic.

Published (R. Qin et al., "Mooncake", FAST 2025, and DualMap, arXiv 2602.06502): 23,608 requests in
an hour, 8,596 tokens of input on average and 182 of output, 59 % of the tokens cacheable; 14.9 % of
the requests share a prefix of 6 blocks and 37.8 % one of 13, the rest differ from block 2 on.

What was not published is assumed: all share block 1; an agent goes on with a prompt by adding to it
(a tool's answer, say) with the same chance after each step, some time later; new tasks arrive as
Poisson's do; lengths are lognormal. The chance and the lengths follow from the published means: let
``r`` be the share of the requests that go on. With ``own`` tokens of a prompt beside its prefix on
average, ``(1 - r) * own`` of the tokens have not been seen before, and of those that go on the part
of a block that their last prompt ended in, half a block on average. That is to be 41 % of 8,596.
"""

import heapq
import itertools
import random
from typing import NamedTuple

from twofold_sim.workloads.distributions import lognormal_tokens
from twofold_sim.workloads.prompt import BLOCK_TOKENS, Prompt

NAME = "synthetic-agent"
REQUESTS_PER_HOUR = 23_608
MEAN_PROMPT_TOKENS = 8_596
MEAN_OUTPUT_TOKENS = 182
CACHEABLE_SHARE = 0.59
LONGEST_PROMPT_TOKENS = 126_195
"""As in Mooncake's conversation trace; an agent that comes to it stops."""
PREFIXES = ((0.149, 6), (0.378, 13))
"""Share of the requests, and blocks."""

COMMON_BLOCKS = 1
MEAN_STEP_TOKENS = 1_500
"""What an agent adds to its prompt in a step, its own output included. Not published."""
MEAN_STEP_SECONDS = 20.0
"""Between two requests of one agent. Not published."""
LENGTH_SIGMA = 0.9
"""Spread of the logarithms of lengths. Not published."""


class _Task(NamedTuple):
    """An agent at work; ``block_ids`` are those of its last prompt's whole blocks."""

    prompt_tokens: int
    block_ids: tuple[int, ...]


def synthetic_agent(count: int = REQUESTS_PER_HOUR, seed: int = 0) -> list[Prompt]:
    """Generate the first *count* prompts; the same for the same *seed*."""
    rng = random.Random(seed)  # noqa: S311 - draws lengths, guards nothing
    own_tokens = MEAN_PROMPT_TOKENS - _mean_prefix_tokens()
    going_on = _share_that_goes_on(own_tokens)
    # A task goes through r / (1 - r) steps beyond the first on average.
    first_tokens = own_tokens - MEAN_STEP_TOKENS * going_on / (1 - going_on)
    draw_first = lognormal_tokens(first_tokens, LENGTH_SIGMA)
    draw_step = lognormal_tokens(MEAN_STEP_TOKENS, LENGTH_SIGMA)
    draw_output = lognormal_tokens(MEAN_OUTPUT_TOKENS, LENGTH_SIGMA)
    new_tasks_per_second = REQUESTS_PER_HOUR / 3600 * (1 - going_on)
    new_block = itertools.count(COMMON_BLOCKS + sum(blocks for _, blocks in PREFIXES))
    tie = itertools.count()

    prompts: list[Prompt] = []
    coming: list[tuple[float, int, _Task | None]] = [(0.0, next(tie), None)]
    while len(prompts) < count:
        at, _, task = heapq.heappop(coming)
        if task is None:
            heapq.heappush(coming, (at + rng.expovariate(new_tasks_per_second), next(tie), None))
            prefix = _draw_prefix(rng)
            prompt_tokens = len(prefix) * BLOCK_TOKENS + draw_first(rng)
            known = prefix
        else:
            prompt_tokens = task.prompt_tokens + draw_step(rng)
            known = task.block_ids
        prompt_tokens = min(prompt_tokens, LONGEST_PROMPT_TOKENS)
        new_count = -(-prompt_tokens // BLOCK_TOKENS) - len(known)
        block_ids = (*known, *itertools.islice(new_block, new_count))
        prompts.append(
            Prompt(
                at=at,
                prompt_tokens=prompt_tokens,
                output_tokens=draw_output(rng),
                block_ids=block_ids,
            )
        )
        if rng.random() < going_on and prompt_tokens < LONGEST_PROMPT_TOKENS:
            later = at + rng.expovariate(1 / MEAN_STEP_SECONDS)
            task = _Task(prompt_tokens, block_ids[: prompt_tokens // BLOCK_TOKENS])
            heapq.heappush(coming, (later, next(tie), task))
    return prompts


def _mean_prefix_tokens() -> float:
    hot = sum(share * blocks for share, blocks in PREFIXES)
    rest = COMMON_BLOCKS * (1 - sum(share for share, _ in PREFIXES))
    return (hot + rest) * BLOCK_TOKENS


def _share_that_goes_on(own_tokens: float) -> float:
    """Solve ``(1 - r) * own_tokens + r * BLOCK_TOKENS / 2 = new tokens`` for r."""
    new_tokens = (1 - CACHEABLE_SHARE) * MEAN_PROMPT_TOKENS
    return (own_tokens - new_tokens) / (own_tokens - BLOCK_TOKENS / 2)


def _draw_prefix(rng: random.Random) -> tuple[int, ...]:
    chance = rng.random()
    first_id = COMMON_BLOCKS
    for share, blocks in PREFIXES:
        own_blocks = blocks - COMMON_BLOCKS
        if chance < share:
            return (*range(COMMON_BLOCKS), *range(first_id, first_id + own_blocks))
        chance -= share
        first_id += own_blocks
    return tuple(range(COMMON_BLOCKS))
