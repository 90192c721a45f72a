"""Ways to move blocks between two processes, behind one interface."""

from twofold_kvtransfer.transports.port import (
    Pair,
    PeerError,
    Transfer,
    TransferState,
    Transport,
)

__all__ = ["Pair", "PeerError", "Transfer", "TransferState", "Transport"]
