"""KV events as vLLM writes them (vllm/distributed/kv_events.py, 0.32)."""

from collections.abc import Hashable, Sequence
from typing import Any, Literal

from twofold_sim.engine_model import BlocksEvent, BlocksStored
from twofold_sim.live.blocks import TellingBlockId

Encoding = Literal["array", "map"]
"""``map`` is vLLM's own since vllm#42892, ``array`` what came before."""

_MEDIUM = "GPU"
_STORED = (
    "type",
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "lora_name",
    "extra_keys",
    "group_idx",
)
_REMOVED = ("type", "block_hashes", "medium", "group_idx")


def encode_event(event: BlocksEvent, encoding: Encoding) -> Any:
    """Return *event* as msgpack is to have it. Stored blocks must know their tokens."""
    if isinstance(event, BlocksStored):
        return _encoded(_STORED, _stored(event), encoding)
    removed = ("BlockRemoved", list(map(_number, event.block_ids)), _MEDIUM, 0)
    return _encoded(_REMOVED, removed, encoding)


def encode_cleared(encoding: Encoding) -> Any:
    return _encoded(("type",), ("AllBlocksCleared",), encoding)


def _encoded(names: Sequence[str], values: Sequence[Any], encoding: Encoding) -> Any:
    return values if encoding == "array" else dict(zip(names, values, strict=True))


def _stored(event: BlocksStored) -> tuple[Any, ...]:
    blocks: list[TellingBlockId] = []
    for block in event.block_ids:
        assert isinstance(block, TellingBlockId), block
        blocks.append(block)
    keeping = blocks[0].keeping
    extra_keys = [_extra_keys(block) for block in blocks]
    return (
        "BlockStored",
        list(map(int, blocks)),
        None if event.parent_id is None else _number(event.parent_id),
        [token for block in blocks for token in block.tokens],
        len(blocks[0].tokens),
        None,
        _MEDIUM,
        keeping.adapter,
        extra_keys,
        0,
    )


def _number(block_id: Hashable) -> int:
    assert isinstance(block_id, int), block_id
    return int(block_id)


def _extra_keys(block: TellingBlockId) -> list[str] | None:
    """Return what a block's hash is made of beside its tokens, as vLLM publishes it."""
    keeping = block.keeping
    keys = [keeping.adapter] if keeping.adapter else []
    if block.is_first and keeping.salt:
        keys.append(keeping.salt)
    return keys or None
