"""vLLM's KV events as they stand on the wire (vllm/distributed/kv_events.py, vLLM 0.32).

A batch is an array ``[seconds, events, data parallel rank]`` in msgpack. An event is a map with
its type under ``type`` or, before vllm#42892, an array that begins with its type. Later versions
add fields at the end, and types; both are ignored.
"""

from dataclasses import dataclass

import msgspec

from twofold_cluster.errors import TwofoldError
from twofold_cluster.kv_events.events import (
    AllBlocksCleared,
    BlockHash,
    BlockRemoved,
    BlockStored,
    KvEvent,
)


class InvalidKvEventsError(TwofoldError):
    """A message is no batch of KV events."""


@dataclass(frozen=True, slots=True)
class EventBatch:
    """What one step of an engine did to its cache."""

    at: float
    """Seconds since 1970 on the engine's clock."""
    events: list[KvEvent]


class _Stored(msgspec.Struct, tag_field="type", tag="BlockStored"):
    """The fields in vLLM's order, which is what counts in an array."""

    block_hashes: tuple[BlockHash, ...]
    parent_block_hash: BlockHash | None
    token_ids: msgspec.Raw
    block_size: int
    lora_id: int | None = None
    medium: str | None = None
    lora_name: str | None = None
    extra_keys: msgspec.Raw = msgspec.Raw()
    group_idx: int | None = None


class _Removed(msgspec.Struct, tag_field="type", tag="BlockRemoved"):
    block_hashes: tuple[BlockHash, ...]
    medium: str | None = None
    group_idx: int | None = None


class _Cleared(msgspec.Struct, tag_field="type", tag="AllBlocksCleared"):
    pass


class _StoredArray(_Stored, array_like=True):
    pass


class _RemovedArray(_Removed, array_like=True):
    pass


class _ClearedArray(_Cleared, array_like=True):
    pass


class _Batch(msgspec.Struct, array_like=True):
    ts: float
    events: list[msgspec.Raw]


class _Kind(msgspec.Struct):
    type: str


class _KindArray(_Kind, array_like=True):
    pass


_KNOWN = frozenset({"BlockStored", "BlockRemoved", "AllBlocksCleared"})

_decode_batch = msgspec.msgpack.Decoder(_Batch).decode
_decode_map = msgspec.msgpack.Decoder(_Stored | _Removed | _Cleared).decode
_decode_array = msgspec.msgpack.Decoder(_StoredArray | _RemovedArray | _ClearedArray).decode
_decode_kind = msgspec.msgpack.Decoder(_Kind).decode
_decode_kind_of_array = msgspec.msgpack.Decoder(_KindArray).decode


def decode_batch(payload: bytes) -> EventBatch:
    """Decode one message's payload. Events of unknown types are left out.

    Raises:
        InvalidKvEventsError: it is no batch, or a known event lacks what it should have.
    """
    try:
        batch = _decode_batch(payload)
        events = [event for raw in batch.events if (event := _event_of(raw)) is not None]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidKvEventsError(f"no batch of KV events: {error}") from error
    return EventBatch(batch.ts, events)


def _event_of(raw: msgspec.Raw) -> KvEvent | None:
    is_array = _starts_array(memoryview(raw)[0])
    try:
        event = _decode_array(raw) if is_array else _decode_map(raw)
    except msgspec.ValidationError:
        kind = _decode_kind_of_array(raw) if is_array else _decode_kind(raw)
        if kind.type in _KNOWN:
            raise
        return None
    if isinstance(event, _Stored):
        return _stored(event)
    if isinstance(event, _Removed):
        return BlockRemoved(event.block_hashes, event.medium, event.group_idx or 0)
    return AllBlocksCleared()


def _stored(event: _Stored) -> BlockStored:
    lora = event.lora_name
    if lora is None and event.lora_id is not None:
        lora = str(event.lora_id)
    return BlockStored(
        block_hashes=event.block_hashes,
        parent=event.parent_block_hash,
        token_count=_array_length(event.token_ids),
        block_tokens=event.block_size,
        medium=event.medium,
        lora=lora,
        group=event.group_idx or 0,
    )


def _starts_array(first: int) -> bool:
    return 0x90 <= first <= 0x9F or first in (0xDC, 0xDD)


def _array_length(raw: msgspec.Raw) -> int:
    """Read how long an array of msgpack is, and none of what is in it.

    Token ids are a prompt: they are not to be kept, and most of what an event is made of.
    """
    head = bytes(memoryview(raw)[:5])
    if head[0] == 0xDC:
        return int.from_bytes(head[1:3], "big")
    if head[0] == 0xDD:
        return int.from_bytes(head[1:5], "big")
    if not _starts_array(head[0]):
        raise msgspec.ValidationError("token_ids are no array")
    return head[0] & 0x0F
