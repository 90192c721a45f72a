"""A prompt's key: what the hashes of placement and the mirrors of the caches are computed from.

DESIGN.md, "The life of a request", step 2: the prompt's canonical bytes are cut into blocks and
hashed in a chain, so that two prompts share exactly the blocks of the beginning that they share.
"""

from dataclasses import dataclass

import msgspec
from xxhash import xxh3_128_digest

from twofold_cluster.apis import Api
from twofold_cluster.canonical import canonical_bytes
from twofold_cluster.errors import Fault, RequestError
from twofold_cluster.fields import Fields, decode_field


@dataclass(frozen=True, slots=True)
class PromptKey:
    """A prompt's length and its digests, each of everything up to the end of its block.

    ``blocks`` are of the full blocks. ``end`` is of the whole prompt, so it says whether two are
    equal. A digest is 16 bytes and no secret: to forge one costs a prediction, never a tenant's
    cache, which the engines keep apart by the salt itself.
    """

    size_bytes: int
    block_bytes: int
    blocks: tuple[bytes, ...]
    end: bytes


def prompt_key(
    api: Api,
    fields: Fields,
    *,
    model: str,
    adapter: str = "",
    salt: str = "",
    block_bytes: int,
) -> PromptKey:
    """Compute the key of the prompt in *fields*. Another model, adapter or salt shares no block.

    A ``cache_salt`` of the request's own comes on top of *salt*.

    Raises:
        RequestError: a field of the prompt is not valid JSON.
    """
    assert block_bytes > 0, block_bytes
    try:
        canonical = canonical_bytes(api, fields)
    except RecursionError as error:  # encoding may go a step deeper than decoding did
        raise RequestError(Fault.INVALID_JSON, "the prompt is nested too deep") from error
    digest = _root(fields, model, adapter, salt)
    size = len(canonical)
    full = size - size % block_bytes
    blocks = []
    for start in range(0, full, block_bytes):
        digest = xxh3_128_digest(digest + canonical[start : start + block_bytes])
        blocks.append(digest)
    end = digest if full == size else xxh3_128_digest(digest + canonical[full:])
    return PromptKey(size, block_bytes, tuple(blocks), end)


def _root(fields: Fields, model: str, adapter: str, salt: str) -> bytes:
    # 0xFF occurs in no UTF-8, so no name can imitate the border to the next.
    names = b"\xff".join((model.encode(), adapter.encode(), salt.encode()))
    own_salt = decode_field(fields, "cache_salt") if "cache_salt" in fields else None
    if own_salt is not None:
        names += b"\xff" + msgspec.json.encode(own_salt, order="deterministic")
    return xxh3_128_digest(names)
