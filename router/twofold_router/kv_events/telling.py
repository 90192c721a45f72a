"""What is heard of a worker's KV events, in the words of placement and of the metrics."""

from collections.abc import Callable
from typing import Literal

from twofold_cluster.kv_events import Batch, Fresh, Happening, Lost, Restarted
from twofold_router.placement.accounts import Life
from twofold_router.placement.interface import BlocksChange

OnChange = Callable[[Life, BlocksChange], None]

Counted = Literal["batch", "replay", "loss", "restart"]
"""A batch was taken in; a replay was asked for; a gap that no replay has filled, or a message that
could not be read; an engine that began anew."""

OnHappening = Callable[[Counted], None]


class Telling:
    """Passes on what is heard of one life of a worker."""

    def __init__(self, life: Life, on_change: OnChange, on_happening: OnHappening) -> None:
        self._life = life
        self._on_change = on_change
        self._count = on_happening

    def hear(self, happening: Happening) -> None:
        match happening:
            case Batch(_, batch):
                self._count("batch")
                if batch.events:
                    self._on_change(self._life, batch.events)
            case Lost():
                self._count("loss")
                self._on_change(self._life, "lost")
            case Restarted.RESTARTED:
                self._count("restart")
                self._on_change(self._life, "restarted")
            case Fresh.FRESH:
                pass  # placement begins with nothing anyway

    def replay(self) -> None:
        """Note that a replay is asked for."""
        self._count("replay")
