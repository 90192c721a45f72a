"""An engine's ranks without an engine."""

import asyncio

from twofold_engine.prefixes.errors import NotAnsweredError


class FakeRanks:
    """Remembers what is pinned, and for how long; ``silent``: no rank answers, and ``may_answer``
    holds the answers to pins back."""

    def __init__(self) -> None:
        self.pinned: dict[str, float] = {}
        self.released: list[str] = []
        self.silent = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def pin(self, request_id: str, seconds: float) -> None:
        self._check()
        self.pinned[request_id] = seconds
        await self.may_answer.wait()

    async def release(self, request_id: str) -> None:
        self._check()
        self.released.append(request_id)
        self.pinned.pop(request_id, None)

    async def lease_count(self) -> int:
        self._check()
        return len(self.pinned)

    def _check(self) -> None:
        if self.silent:
            raise NotAnsweredError("no rank answers")
