"""Doubles of a transfer and a digester, for what waits for them."""

from twofold_kvtransfer.blocks import BlockIds
from twofold_kvtransfer.transports import TransferState


class FakeTransfer:
    """Ends when the test says so; whether a cancel ends it is for the test to say too."""

    size_bytes = 100
    seconds = 0.0

    def __init__(self, state: TransferState = TransferState.MOVING) -> None:
        self.state = state
        self.reason: str | None = None
        self.heeds_cancel = True
        self.was_cancelled = False

    def poll(self) -> TransferState:
        return self.state

    def cancel(self) -> None:
        self.was_cancelled = True
        if self.heeds_cancel:
            self.fail("cancelled")

    def fail(self, reason: str) -> None:
        self.state, self.reason = TransferState.FAILED, reason


class FakeDigester:
    """Finds in local blocks what the test says."""

    def __init__(self, *found: int) -> None:
        self.found = list(found)
        self.asked: list[BlockIds] = []

    async def digest(self, ids: BlockIds) -> list[int]:
        self.asked.append(ids)
        return self.found

    async def digest_unhurried(self, ids: BlockIds) -> list[int]:
        return await self.digest(ids)
