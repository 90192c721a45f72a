"""One move of blocks by NIXL."""

from typing import TYPE_CHECKING

from twofold_kvtransfer.transports.nixl.agent import Handle
from twofold_kvtransfer.transports.nixl.lists import Indices
from twofold_kvtransfer.transports.port import TransferState

if TYPE_CHECKING:
    from twofold_kvtransfer.transports.nixl.pair import NixlPair

CANCELLED = "cancelled"


class NixlTransfer:
    """Waits to be posted, then NIXL has it, then it has ended.

    Once UCX has a request nothing takes it back: releasing it, closing its connection and removing
    the peer leave it to write into local memory when an answer comes (seen over TCP with a peer
    that stood still). So a transfer that shall fail goes on ``MOVING`` until NIXL is done with it.
    """

    def __init__(
        self, pair: "NixlPair", operation: str, indices: tuple[Indices, Indices], size_bytes: int
    ) -> None:
        """*indices*: local and remote."""
        self.pair = pair
        self.operation = operation
        self.indices = indices
        self.size_bytes = size_bytes
        self.handle: Handle | None = None
        """NIXL's, while it has this transfer; touched in turns only."""
        self.posted_at: float | None = None
        self._shall_fail_for: str | None = None
        self._state = TransferState.MOVING
        self._reason: str | None = None
        self._started_at = pair.clock()
        self._ended_at: float | None = None

    def poll(self) -> TransferState:
        if self._ended_at is None:
            self.pair.advance(self)
        return self._state

    @property
    def has_ended(self) -> bool:
        return self._ended_at is not None

    @property
    def is_unwanted(self) -> bool:
        return self._shall_fail_for is not None

    @property
    def reason(self) -> str | None:
        return self._reason

    @property
    def seconds(self) -> float:
        return (self.pair.clock() if self._ended_at is None else self._ended_at) - self._started_at

    def cancel(self) -> None:
        self.want_to_fail(CANCELLED)

    def want_to_fail(self, reason: str) -> None:
        """Make it fail for *reason* as soon as local memory is let go of; the first one counts."""
        if self._shall_fail_for is None:
            self._shall_fail_for = reason

    def end(self, failure: str | None = None) -> None:
        """Let it have ended: done, or failed for what was wanted or else for *failure*."""
        if self._ended_at is not None:
            return
        self._reason = self._shall_fail_for or failure
        self._state = TransferState.DONE if self._reason is None else TransferState.FAILED
        self._ended_at = self.pair.clock()
