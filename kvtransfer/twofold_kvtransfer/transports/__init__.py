"""Ways to move blocks between two processes, behind one interface."""

from twofold_kvtransfer.transports.port import (
    CHECKSUM,
    CodedTransfer,
    Pair,
    PeerError,
    Transfer,
    TransferState,
    Transport,
    payload_bytes_of,
)

__all__ = [
    "CHECKSUM",
    "CodedTransfer",
    "Pair",
    "PeerError",
    "Transfer",
    "TransferState",
    "Transport",
    "payload_bytes_of",
]
