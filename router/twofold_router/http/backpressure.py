"""Who waits while a client does not read: the source of its answer, and whoever asked to."""

import asyncio
from typing import Protocol


class Source(Protocol):
    """What is read to be written to a client, and waits while the client does not read."""

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Backpressure:
    """Whether the buffer to one client ``is_full``: between ``rise`` and ``fall``. ``was_cut``: it
    was when the connection ended, and what it held is lost."""

    __slots__ = ("_drained", "_source", "is_full", "was_cut")

    def __init__(self) -> None:
        self.is_full = False
        self.was_cut = False
        self._source: Source | None = None
        self._drained: asyncio.Future[None] | None = None

    def rise(self) -> None:
        self.is_full = True
        if self._source is not None:
            self._source.pause_reading()

    def fall(self) -> None:
        self.is_full = False
        if self._source is not None:
            self._source.resume_reading()
        drained, self._drained = self._drained, None
        if drained is not None:
            drained.set_result(None)

    def end(self) -> None:
        """Take note that the connection is lost: nobody is to wait any longer."""
        self.was_cut = self.is_full
        self.fall()

    def follow(self, source: Source | None) -> None:
        """Pause *source* while the buffer is full; None ends that."""
        self._source = source
        if source is not None and self.is_full:
            source.pause_reading()

    async def drain(self) -> None:
        """Wait until the buffer is not full."""
        while self.is_full:
            if self._drained is None:
                self._drained = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._drained)
