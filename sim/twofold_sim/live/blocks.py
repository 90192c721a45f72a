"""The ids of a prompt's blocks, chained as vLLM chains them.

A block's id is made of the one before it, its tokens, the adapter, and for the first block the
cache salt (vllm/v1/core/kv_cache_utils.py, ``generate_block_hash_extra_keys``): so equal ids stand
for equal blocks after equal blocks. The model is in it too, as engines of several may share an
index.
"""

from dataclasses import dataclass

from xxhash import xxh3_64_intdigest

from twofold_sim.live.tokens import Tokens

_TOKEN_BYTES = 8


@dataclass(frozen=True, slots=True)
class Keeping:
    """Whose blocks they are, beside their tokens."""

    model: str
    adapter: str | None = None
    salt: str | None = None


class TellingBlockId(int):
    """A block's id that knows its tokens: KV events tell them. It equals the plain number."""

    tokens: Tokens
    keeping: Keeping
    is_first: bool


def block_ids(tokens: Tokens, block_tokens: int, keeping: Keeping) -> list[int]:
    """Return the ids of the full blocks of *tokens*, each of *block_tokens*."""
    raw = memoryview(tokens).cast("B")
    size = block_tokens * _TOKEN_BYTES
    root = f"{keeping.model}\0{keeping.adapter or ''}"
    parent = xxh3_64_intdigest(f"{root}\0{keeping.salt or ''}".encode())
    ids: list[int] = []
    for at in range(0, len(raw) - size + 1, size):
        parent = xxh3_64_intdigest(raw[at : at + size], seed=parent)
        ids.append(parent)
    return ids


def telling_block_ids(tokens: Tokens, block_tokens: int, keeping: Keeping) -> list[int]:
    """Return the same ids, each with its tokens."""
    told: list[int] = []
    for number, plain in enumerate(block_ids(tokens, block_tokens, keeping)):
        block = TellingBlockId(plain)
        block.tokens = tokens[number * block_tokens : (number + 1) * block_tokens]
        block.keeping = keeping
        block.is_first = number == 0
        told.append(block)
    return told
