"""What is heard of one engine's numbered batches, gaps and new beginnings among them."""

import enum
from dataclasses import dataclass

from twofold_cluster.kv_events.decoding import EventBatch


@dataclass(frozen=True, slots=True)
class Batch:
    """Batch *number*. Those before it that were not heard are gone for good."""

    number: int
    batch: EventBatch


@dataclass(frozen=True, slots=True)
class Lost:
    """Batch *number*, and what of those before it was not heard, cannot be had any more.

    None: a message that is no batch. If it stood for one, the next number shows the gap.
    """

    number: int | None


class Restarted(enum.Enum):
    """The engine has begun anew and counts from 0; its next batch follows at once."""

    RESTARTED = "restarted"


class Fresh(enum.Enum):
    """The engine has not told anything yet since it began, so its cache has nothing to tell of."""

    FRESH = "fresh"


Happening = Batch | Lost | Restarted | Fresh
