"""The steps of an engine, for a thread beside it that waits for them."""

import asyncio
from contextlib import suppress


class Steps:
    """Counts in the engine's thread, and wakes who waits in an event loop of another.

    ``_loop`` is set while somebody waits, and is all that the engine's thread looks at: a step that
    nobody waits for costs it nothing. ``_waiting`` is the loop's own.
    """

    def __init__(self) -> None:
        self._scheduled = 0
        self._done = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[asyncio.Future[None], int] = {}

    @property
    def next_number(self) -> int:
        """The number of the step that is scheduled next, or just now."""
        return self._scheduled + 1

    def note_scheduled(self) -> int:
        """Count a step that is scheduled, and return its number."""
        self._scheduled += 1
        return self._scheduled

    def note_done(self, step: int) -> None:
        """Note that the model has run in *step*, and in those before."""
        self._done = step
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it has just been closed, and nobody waits any more
                loop.call_soon_threadsafe(self._wake)

    def has_done(self, step: int) -> bool:
        return self._done >= step

    async def until_done(self, step: int) -> None:
        """Return when *step* is done; how long that may take is for the caller to say.

        All who wait at the same time are of one event loop.
        """
        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        self._waiting[woken] = step
        self._loop = loop
        try:
            # The step may have ended before the loop was set, and then nobody is woken.
            if not self.has_done(step):
                await woken
        finally:
            del self._waiting[woken]
            if not self._waiting:
                self._loop = None

    def _wake(self) -> None:
        for woken, step in self._waiting.items():
            if self.has_done(step) and not woken.done():
                woken.set_result(None)
