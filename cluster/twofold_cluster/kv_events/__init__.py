"""The KV events of an engine, decoded: which blocks its cache holds, and no longer holds."""

from twofold_cluster.kv_events.decoding import EventBatch, InvalidKvEventsError, decode_batch
from twofold_cluster.kv_events.events import (
    AllBlocksCleared,
    BlockHash,
    BlockRemoved,
    BlockStored,
    KvEvent,
)

__all__ = [
    "AllBlocksCleared",
    "BlockHash",
    "BlockRemoved",
    "BlockStored",
    "EventBatch",
    "InvalidKvEventsError",
    "KvEvent",
    "decode_batch",
]
