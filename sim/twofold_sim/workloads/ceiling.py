"""The best that any placement could do for the hit rate."""

from collections.abc import Iterable
from itertools import takewhile

from twofold_sim.workloads.prompt import BLOCK_TOKENS, Prompt


def hit_rate_ceiling(prompts: Iterable[Prompt], *, warm_up_count: int = 0) -> float:
    """Return the share of the prompts' tokens that one cache would have had that forgets nothing
    and knows every earlier arrival at once; the first *warm_up_count* fill it only.

    The last token of a prompt is always computed.
    """
    known: set[int] = set()
    cached_tokens = total_tokens = 0
    for number, prompt in enumerate(prompts):
        if number >= warm_up_count:
            block_count = sum(1 for _ in takewhile(known.__contains__, prompt.block_ids))
            cached_tokens += min(block_count * BLOCK_TOKENS, prompt.prompt_tokens - 1)
            total_tokens += prompt.prompt_tokens
        known.update(prompt.block_ids)
    return cached_tokens / total_tokens if total_tokens else 0.0
