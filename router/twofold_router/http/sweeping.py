"""One timer for all the time limits of a server or a client, instead of one each per request."""

import asyncio
from collections.abc import Callable

SWEEP_SECONDS = 0.5
"""How late a limit may be kept: little against limits of seconds, and a sweep is a plain loop."""


class Sweeping:
    """Calls *sweep* every SWEEP_SECONDS until it is stopped."""

    def __init__(self, sweep: Callable[[], None]) -> None:
        self._sweep = sweep
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(SWEEP_SECONDS, self._run)

    def stop(self) -> None:
        self._timer.cancel()

    def _run(self) -> None:
        self._timer = self._loop.call_later(SWEEP_SECONDS, self._run)
        self._sweep()
