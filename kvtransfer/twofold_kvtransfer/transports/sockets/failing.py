"""Why a transfer fails."""

import enum

from twofold_cluster.errors import TwofoldError


class Failure(enum.StrEnum):
    """The kinds of failure; a transfer's reason begins with one, but for ``CLOSED``."""

    CANCELLED = "cancelled"
    CLOSED = "closed"
    """By this side; the reason is the one that it gave."""
    BUSY = "busy"
    """Too many transfers at once."""
    PEER_LOST = "peer-lost"
    """Not there, died, or cut off."""
    REFUSED = "refused"
    """The peer is another incarnation, or does not have such blocks."""
    TIMEOUT = "timeout"
    CHECKSUM = "checksum"
    """What arrived is not what was sent."""
    PROTOCOL = "protocol"
    """What arrived makes no sense."""


class TransferError(TwofoldError):
    """Ends one transfer; never seen by a caller of the transport."""

    def __init__(self, failure: Failure, text: str) -> None:
        super().__init__(f"{failure}: {text}")
        self.failure = failure
        self.text = text
