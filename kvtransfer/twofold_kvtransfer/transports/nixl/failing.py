"""Why a transfer failed, in a word to count by and then NIXL's."""

import enum


class Failure(enum.StrEnum):
    PEER_LOST = "peer-lost"
    """UCX says so at once of a process that died, and of a machine when its time limits pass."""
    REFUSED = "refused"
    """NIXL did not take the transfer, or gave it up."""
    BUSY = "busy"
    """More transfers wait than the settings allow."""
    TIMEOUT = "timeout"
    """It took longer than a transfer may."""


_LOST_PEER = frozenset({"nixlRemoteDisconnectError", "nixlNotFoundError"})
"""NIXL forgets a peer that UCX lost, and then finds none of that name."""


def reason_of(error: Exception) -> str:
    """Return the reason that NIXL's *error* is."""
    name = type(error).__name__
    failure = Failure.PEER_LOST if name in _LOST_PEER else Failure.REFUSED
    return f"{failure}: {error}"
