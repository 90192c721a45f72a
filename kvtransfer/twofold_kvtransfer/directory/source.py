"""Where a feeder hears of one worker's KV events."""

import enum
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from twofold_cluster.kv_events import EventBatch


@dataclass(frozen=True, slots=True)
class Batch:
    """Batch *number*. Those before it that were not heard are gone for good."""

    number: int
    batch: EventBatch


@dataclass(frozen=True, slots=True)
class Lost:
    """Batch *number* cannot be read."""

    number: int


class Restarted(enum.Enum):
    """The engine has begun anew and counts from 0; its next batch follows at once."""

    RESTARTED = "restarted"


Happening = Batch | Lost | Restarted


class EventSource(Protocol):
    """The events of one incarnation of a worker, in order; replays are asked for by the source.

    It begins with the oldest that the engine still has.
    """

    def follow(self) -> AsyncIterator[Happening]: ...
