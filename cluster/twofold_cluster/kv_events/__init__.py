"""The KV events of an engine, decoded: which blocks its cache holds, and no longer holds.

``twofold_cluster.kv_events.following`` hears them from an engine.
"""

from twofold_cluster.kv_events.decoding import EventBatch, InvalidKvEventsError, decode_batch
from twofold_cluster.kv_events.events import (
    AllBlocksCleared,
    BlockHash,
    BlockRemoved,
    BlockStored,
    KvEvent,
)
from twofold_cluster.kv_events.happenings import Batch, Fresh, Happening, Lost, Restarted

__all__ = [
    "AllBlocksCleared",
    "Batch",
    "BlockHash",
    "BlockRemoved",
    "BlockStored",
    "EventBatch",
    "Fresh",
    "Happening",
    "InvalidKvEventsError",
    "KvEvent",
    "Lost",
    "Restarted",
    "decode_batch",
]
