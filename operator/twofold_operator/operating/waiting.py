"""Which services wait to be reconciled: each at most once, and never two at a time of one."""

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class WaitingKeys(Generic[Key]):
    """A key is waiting, taken, or neither; one that is added while taken waits again afterwards.

    It has as many entries as there are keys, whatever happens: what is added twice waits once.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: OrderedDict[Key, float] = OrderedDict()
        self._taken: dict[Key, float] = {}
        self._again: dict[Key, float] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._added = asyncio.Event()

    def add(self, key: Key) -> None:
        """Let *key* wait from now on."""
        self._cancel_timer(key)
        now = self._loop.time()
        if key in self._taken:
            self._again.setdefault(key, now)
        elif key not in self._waiting:
            self._waiting[key] = now
            self._added.set()

    def add_later(self, key: Key, seconds: float) -> None:
        """Let *key* wait after *seconds*, unless it is added before."""
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= self._loop.time() + seconds:
            return
        self._cancel_timer(key)
        self._timers[key] = self._loop.call_later(seconds, self.add, key)

    async def take(self) -> Key:
        """Return the key that waits longest; whoever takes it gives it back by ``done``."""
        while not self._waiting:
            self._added.clear()
            await self._added.wait()
        key, _ = self._waiting.popitem(last=False)
        self._taken[key] = self._loop.time()
        return key

    def done(self, key: Key) -> None:
        del self._taken[key]
        if key in self._again:
            self._waiting[key] = self._again.pop(key)
            self._added.set()

    def close(self) -> None:
        for key in list(self._timers):
            self._cancel_timer(key)

    @property
    def depth(self) -> int:
        return len(self._waiting)

    @property
    def lag_seconds(self) -> float:
        """How long the oldest has waited."""
        since = [*self._waiting.values(), *self._again.values()]
        return self._loop.time() - min(since) if since else 0.0

    @property
    def longest_taken_seconds(self) -> float:
        """How long the oldest of those that are being reconciled has been."""
        since = self._taken.values()
        return self._loop.time() - min(since) if since else 0.0

    def _cancel_timer(self, key: Key) -> None:
        if (timer := self._timers.pop(key, None)) is not None:
            timer.cancel()
