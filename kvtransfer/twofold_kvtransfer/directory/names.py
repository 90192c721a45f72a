"""What a block is called in the directory."""

from twofold_cluster.kv_events import BlockHash

NAME_BYTES = 16
"""Of a longer hash the last ones are kept: half of vLLM's SHA-256 still leaves no chance that two
prompts meet, and the names are most of what the directory stores."""

_INT_BYTES = 8
_MASK = (1 << 64) - 1


def block_name(block: BlockHash) -> bytes:
    """Return the name of *block*.

    vLLM's integers are the last 64 bits of its hashes (``maybe_convert_block_hash`` in
    vllm/v1/core/kv_cache_utils.py); other engines' may be negative.
    """
    if isinstance(block, int):
        return (block & _MASK).to_bytes(_INT_BYTES, "big")
    return block[-NAME_BYTES:].rjust(_INT_BYTES, b"\0")
