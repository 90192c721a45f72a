"""Where a feeder hears of one worker's KV events."""

from collections.abc import Callable
from typing import Protocol

from twofold_cluster.kv_events import Happening


class EventSource(Protocol):
    """The events of one incarnation of a worker, in order; replays are asked for by the source.

    It begins with the oldest that the engine still has.
    """

    async def follow(self, hear: Callable[[Happening], None], /) -> None:
        """Tell *hear* of all that happens until cancelled."""
