"""The key that the router would compute from a prompt's bytes."""

from twofold_cluster.prompt_key import PromptKey
from twofold_sim.workloads.prompt import BLOCK_TOKENS, Prompt

BYTES_PER_TOKEN = 4
ID_BYTES = 16
"""Of a block's id; a prompt with a greater one has no key."""
_END_BYTES = 13
"""Of the id in an end, if it fits."""


def key_of(prompt: Prompt) -> PromptKey:
    """Make the key of *prompt*: two prompts share its blocks as far as they share ``block_ids``.

    A last block that is part of one is in ``end`` only, as it is in a key made of bytes.
    """
    full_count, rest_tokens = divmod(prompt.prompt_tokens, BLOCK_TOKENS)
    blocks = tuple(block_id.to_bytes(ID_BYTES) for block_id in prompt.block_ids[:full_count])
    end = _end(prompt.block_ids[-1]) if rest_tokens else blocks[-1]
    return PromptKey(
        prompt.prompt_tokens * BYTES_PER_TOKEN, BLOCK_TOKENS * BYTES_PER_TOKEN, blocks, end
    )


def _end(block_id: int) -> bytes:
    byte_count = _END_BYTES if block_id < 1 << 8 * _END_BYTES else ID_BYTES
    return b"end" + block_id.to_bytes(byte_count)
