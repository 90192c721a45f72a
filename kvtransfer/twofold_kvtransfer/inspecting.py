"""What one rank can tell of its peers and its leases; all of it in the node's own loop."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from twofold_kvtransfer.keeping import Keeper
from twofold_kvtransfer.lease import LeaseSnapshot
from twofold_kvtransfer.leases import LeaseCounts, LeaseTable
from twofold_kvtransfer.links import Links, LinkSnapshot
from twofold_kvtransfer.side_channel import Desk, ReaderSnapshot

MAX_LEASES_TOLD = 1000
"""In one answer; with names of usual length some 100 KiB."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose peers and leases these are."""

    worker: str
    incarnation: str
    rank: int
    transport: str


@dataclass(frozen=True, slots=True)
class PeersSnapshot:
    links: tuple[LinkSnapshot, ...]
    """To those that this rank reads from."""
    lease_counts: dict[str, int]
    """Leases that this rank keeps there, by engine id; also where no link is open now."""
    readers: tuple[ReaderSnapshot, ...]


@dataclass(frozen=True, slots=True)
class LeasesSnapshot:
    counts: LeaseCounts
    pinned_count: int
    """Of those promised and held."""
    oldest: tuple[LeaseSnapshot, ...]


class Inspection:
    """Reads the parts of a node, and lets a lease be kept or ended by hand."""

    def __init__(
        self,
        identity: Identity,
        links: Links,
        keeper: Keeper,
        desk: Desk,
        leases: LeaseTable,
        *,
        released: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*released* is called when a lease may have ended; *clock* is the leases'."""
        self.identity = identity
        self._links = links
        self._keeper = keeper
        self._desk = desk
        self._leases = leases
        self._released = released
        self._clock = clock

    def peers(self) -> PeersSnapshot:
        return PeersSnapshot(self._links.snapshot(), self._keeper.counts(), self._desk.snapshot())

    def leases(self) -> LeasesSnapshot:
        now = self._clock()
        return LeasesSnapshot(
            self._leases.counts(),
            self._leases.pinned_count(now),
            self._leases.snapshot(now, MAX_LEASES_TOLD),
        )

    def pin(self, request_id: str, seconds: float) -> None:
        """Keep a lease for *seconds* at least.

        Raises:
            InvalidPinError: for no time, or for too long.
            TooMuchPinnedError: all pins would keep too much of the cache.
            UnknownLeaseError: there is none, or it has ended.
        """
        self._leases.pin(request_id, seconds, self._clock())

    def release(self, request_id: str) -> None:
        """End a lease.

        Raises:
            UnknownLeaseError: there is none, or it is only promised, and not pinned.
        """
        self._leases.release(request_id)
        self._released()
