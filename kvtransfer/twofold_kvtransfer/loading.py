"""How much a rank has to do with other engines now."""

from dataclasses import dataclass

from twofold_kvtransfer.leases import LeaseTable
from twofold_kvtransfer.receiving import Receiver


@dataclass(frozen=True, slots=True)
class Load:
    """Counts; a lease may be in several states."""

    promised: int = 0
    held: int = 0
    claimed: int = 0
    """Of those, that a reader holds."""
    pinned: int = 0
    """Of those, that do not end before their time."""
    reading: int = 0
    """Requests whose blocks are fetched."""
    waiting: int = 0
    """Requests that wait for blocks of their own to read into."""


def load_of(leases: LeaseTable, receiver: Receiver, now: float) -> Load:
    """Count, in the loop that owns both; *now* is of the leases' clock."""
    counts = leases.counts()
    return Load(
        promised=counts.promised,
        held=counts.held,
        claimed=leases.claimed_count(now),
        pinned=leases.pinned_count(now),
        reading=receiver.reading_count,
        waiting=receiver.waiting_count,
    )
