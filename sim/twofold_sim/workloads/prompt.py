"""A request of a workload."""

import msgspec

BLOCK_TOKENS = 512
"""Of the blocks that ``block_ids`` name, as in Mooncake's traces."""

MOST_TOKENS = 10_000_000
"""Of a prompt in a trace, or of an answer: as many as the longest context that a model has. More is
a mistake, and the blocks of a million times as many fill the memory."""


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """One request, without its text."""

    at: float
    """Seconds from the beginning."""
    prompt_tokens: int
    output_tokens: int
    block_ids: tuple[int, ...]
    """One for each block of 512 tokens, the last of which may be part of one; an id stands for its
    block and all before it, so prompts with an id in common share all tokens up to it."""
