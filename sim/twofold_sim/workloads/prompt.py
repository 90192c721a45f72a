"""A request of a workload."""

import msgspec

BLOCK_TOKENS = 512
"""Of the blocks that ``block_ids`` name, as in Mooncake's traces."""


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """One request, without its text."""

    at: float
    """Seconds from the beginning."""
    prompt_tokens: int
    output_tokens: int
    block_ids: tuple[int, ...]
    """One for each block of 512 tokens, the last of which may be part of one; an id stands for its
    block and all before it, so prompts with an id in common share all tokens up to it."""
