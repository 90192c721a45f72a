"""The best that any placement could do for the hit rate."""

from collections.abc import Iterable
from itertools import repeat, takewhile

from twofold_sim.workloads.prompt import BLOCK_TOKENS, Prompt


def hit_rate_ceiling(prompts: Iterable[Prompt], counted: Iterable[bool] | None = None) -> float:
    """Return the share of the tokens of those *prompts* that are *counted*, all if None, which one
    cache would have had that forgets nothing and knows every earlier one of *prompts* at once.

    *counted* has one for each of *prompts*; those that are not counted fill the cache only. To be
    above a hit rate it has to count the same requests. The last token of a prompt is always
    computed.
    """
    known: set[int] = set()
    cached_tokens = total_tokens = 0
    counts = repeat(True) if counted is None else counted
    for prompt, is_counted in zip(prompts, counts, strict=False):  # ``repeat`` has no end
        if is_counted:
            block_count = sum(1 for _ in takewhile(known.__contains__, prompt.block_ids))
            cached_tokens += min(block_count * BLOCK_TOKENS, prompt.prompt_tokens - 1)
            total_tokens += prompt.prompt_tokens
        known.update(prompt.block_ids)
    return cached_tokens / total_tokens if total_tokens else 0.0
