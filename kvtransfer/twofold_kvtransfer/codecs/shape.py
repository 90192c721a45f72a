"""What lies in the blocks of a KV cache, and where in a block each number is."""

import enum
from dataclasses import dataclass
from typing import Literal

from twofold_kvtransfer.codecs.errors import ShapeError

Dtype = Literal["bfloat16", "float16", "float32"]

DTYPE_BYTES: dict[Dtype, int] = {"bfloat16": 2, "float16": 2, "float32": 4}

TILE = 16
"""Rows of an AMX tile."""


class Packing(enum.Enum):
    """How K and V of one head of one block lie in its ``block_tokens * 2 * head_dim`` numbers.

    vLLM 0.32 calls the last axis "content" and leaves its order to the attention backend. Seen
    by writing marked keys and values with the backends' own kernel, ``reshape_and_cache``:
    """

    TOKENS = "tokens"
    """``(token, side, channel)``: each token's K, then its V. CUDA: FlashAttention, Triton."""
    CPU = "cpu"
    """All of K as ``(channel, token)``, then all of V as ``(token, channel)``. vLLM's CPU backend
    with the instruction sets ``vec`` and ``vec16``: float32, float16, and bfloat16 without AMX."""
    CPU_AMX = "cpu-amx"
    """All of K as ``(token / 16, channel / 2, 16, 2)``, then all of V as ``(channel / 16,
    token / 2, 16, 2)``, the axes of 16 and 2 being the rest of what was divided. vLLM's CPU
    backend for bfloat16 with AMX."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KvShape:
    """The blocks of one cache: ``(regions, blocks, heads, block_tokens, 2 * head_dim)``.

    The same on both sides of a transfer; how many blocks move is not part of it.
    """

    regions: int
    heads: int
    block_tokens: int
    head_dim: int
    dtype: Dtype
    packing: Packing

    def __post_init__(self) -> None:
        if min(self.regions, self.heads, self.block_tokens, self.head_dim) < 1:
            raise ShapeError(f"nothing in {self}")
        multiple = TILE if self.packing is Packing.CPU_AMX else 8
        if self.block_tokens % multiple or self.head_dim % multiple:
            raise ShapeError(f"tokens and channels come in multiples of {multiple}: {self}")

    @property
    def page_numbers(self) -> int:
        """Of one head of one block in one region, K and V together."""
        return 2 * self.side_numbers

    @property
    def side_numbers(self) -> int:
        """K or V of one head of one block in one region."""
        return self.block_tokens * self.head_dim

    @property
    def block_numbers(self) -> int:
        """Of one block in one region."""
        return self.heads * self.page_numbers

    @property
    def item_bytes(self) -> int:
        return DTYPE_BYTES[self.dtype]

    def size_bytes(self, block_count: int) -> int:
        """Of *block_count* blocks in all regions, as they lie in the cache."""
        return self.regions * block_count * self.block_numbers * self.item_bytes
