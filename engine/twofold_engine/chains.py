"""The blocks of a prompt, as the workers of a service name them."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec


class Chain(msgspec.Struct, frozen=True):
    """The full blocks of one prompt, in order; the name of each stands for all before it as well.

    What the last tokens leave of a block is none: it is neither cached nor named.
    """

    token_count: int
    """Of the whole prompt."""
    block_tokens: int
    blocks: tuple[str, ...]
    """Their hashes as the engine's KV events tell them, in hexadecimal digits."""


Name = Callable[[Mapping[str, Any]], Awaitable[Chain]]
"""Names the blocks of what a client would send to a completions or a chat API."""


def names_are_common(algorithm: str, environment: Mapping[str, str]) -> bool:
    """Tell whether all engines of a model give a block the same name.

    *algorithm*: vLLM's ``prefix_caching_hash_algo``. vLLM 0.32 begins a chain of SHA-256 with a
    constant. The quicker hashes begin with a secret of the process, because collisions can be
    computed for them, unless ``PYTHONHASHSEED`` says with what (``resolve_none_hash_seed`` in
    vllm/v1/core/kv_cache_utils.py).
    """
    return algorithm.startswith("sha256") or "PYTHONHASHSEED" in environment
