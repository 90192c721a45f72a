"""Leases: how long a prefill worker keeps blocks for somebody who fetches them.

A lease belongs to one request whose blocks are held. It is *promised* as soon as the request is
computed, because its reader may ask before this process knows that the request has finished, and
*granted* for a time when it has. A reader renews it by claiming it, and it ends once, for one
:class:`Cause`. Several engines may read under one lease, since a request whose decode worker
fails is sent to another: what one of them gives back, another may still hold.

A lease may be *pinned*, readers or none: then it does not end before its time, but by release.

Time is an argument, in seconds of any clock that does not go back.
"""

import itertools
import math
from collections import Counter
from dataclasses import dataclass

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.lease import Cause, Lease, LeaseSnapshot, Reader

MAX_LEASE_COUNT = 100_000
"""More requests than any engine has blocks for; a table beyond it is a bug, not load."""


MAX_PIN_SECONDS = 24 * 3600.0
"""Of one pin, from when it is asked for; long enough for what is asked every day."""


MAX_PINNED_SHARE = 0.5
"""Of a cache that all pins may keep: what is left has to serve requests."""


class UnknownLeaseError(TwofoldError):
    """A lease that was never granted, or has ended."""


class InvalidPinError(TwofoldError):
    """A pin for no time, or for too long."""


class TooMuchPinnedError(TwofoldError):
    """A pin beyond what all of them may keep."""


@dataclass(frozen=True, slots=True)
class Ended:
    request_id: str
    cause: Cause


@dataclass(frozen=True, slots=True)
class LeaseCounts:
    """What a table has seen: ``held`` and ``promised`` are now, ``ended`` since its beginning."""

    promised: int
    held: int
    ended: dict[Cause, int]


class LeaseTable:
    """All leases of one engine process.

    A lease is renewed for a limited time after it was granted, so that a reader that is stuck, and
    renews without end, does not keep blocks for ever.

    A request is promised, held or unknown. What :meth:`collect` names has been forgotten, and is
    named once: at the latest its time after the last claim or the end of its pin, and not before
    the time that any reader was told, unless that reader has given it back or was fenced, nor
    before the end of its pin, unless it was released.
    """

    def __init__(
        self,
        lease_seconds: float,
        keep_limit_seconds: float = math.inf,
        max_pinned_blocks: float = math.inf,
    ) -> None:
        """*keep_limit_seconds* after it was granted a lease is renewed no more. All that are pinned
        keep at most *max_pinned_blocks*, those that two of them share counted twice."""
        self._lease_seconds = lease_seconds
        self._keep_limit_seconds = keep_limit_seconds
        self._max_pinned_blocks = max_pinned_blocks
        self._leases: dict[str, Lease] = {}
        self._ended: Counter[Cause] = Counter()

    def promise(self, request_id: str) -> None:
        """Expect that the blocks of *request_id* will be held. Again is the same as once."""
        self._leases.setdefault(request_id, Lease())
        assert len(self._leases) <= MAX_LEASE_COUNT, "leases are promised and never withdrawn"

    def withdraw(self, request_id: str) -> None:
        """Take a promise back: the request ended without blocks to fetch.

        Nobody was told of such a request, so nobody has claimed it.
        """
        lease = self._leases.get(request_id)
        if lease is not None and not lease.granted:
            del self._leases[request_id]

    def grant(self, request_id: str, now: float, block_count: int = 0) -> None:
        """Hold the *block_count* blocks of *request_id* from *now* on, promised before or not.

        How many they are was not known of a promise that was pinned: such a pin ends here if they
        are too many.
        """
        self.promise(request_id)
        lease = self._leases[request_id]
        if not lease.granted:
            lease.granted_at = now
        lease.granted = True
        lease.block_count = block_count
        if lease.is_pinned(now) and self._pinned_blocks(now) > self._max_pinned_blocks:
            lease.pinned_until = now
        lease.expires = max(lease.expires, now + self._lease_seconds)

    def claim(self, request_id: str, reader: Reader, now: float) -> float:
        """Renew the lease for *reader*, and return the seconds that it holds from *now* on.

        Raises:
            UnknownLeaseError: it has ended, was released or kept for as long as any may be, or
                this reader has given it back.
        """
        lease = self._leases.get(request_id)
        if (
            lease is None
            or lease.over(now) is not None
            or lease.ending is Cause.RELEASED
            or (lease.granted and now >= lease.granted_at + self._keep_limit_seconds)
            or reader.rank in lease.returned.get(reader.engine, ())
        ):
            raise UnknownLeaseError(f"no lease for request {request_id}")
        until = now + self._lease_seconds
        lease.held[reader.engine, reader.rank] = until
        lease.expires = max(lease.expires, until)
        return self._lease_seconds

    def give_back(self, request_id: str, reader: Reader) -> None:
        """Note that *reader* needs the blocks no more. Unknown leases and repetitions are fine:
        an answer may have been lost."""
        lease = self._leases.get(request_id)
        if lease is None:
            return
        lease.held.pop((reader.engine, reader.rank), None)
        returned = lease.returned.setdefault(reader.engine, set())
        returned.add(reader.rank)
        if len(returned) >= reader.count and lease.ending is not Cause.RELEASED:
            lease.ending = Cause.READ

    def pin(self, request_id: str, seconds: float, now: float) -> None:
        """Keep the lease, promised or held, for *seconds* at least, whatever its readers do.

        Raises:
            InvalidPinError: *seconds* are none, or more than ``MAX_PIN_SECONDS``.
            TooMuchPinnedError: all pins would keep too much.
            UnknownLeaseError: there is none, or it has ended or was released.
        """
        if not 0 < seconds <= MAX_PIN_SECONDS:  # false of a NaN too
            raise InvalidPinError(f"a pin of {seconds} s; it must be 0 to {MAX_PIN_SECONDS:.0f}")
        lease = self._leases.get(request_id)
        if lease is None or lease.over(now) is not None or lease.ending is Cause.RELEASED:
            raise UnknownLeaseError(f"no lease for request {request_id}")
        if not lease.is_pinned(now):
            taken, bound = self._pinned_blocks(now), self._max_pinned_blocks
            if taken + lease.block_count > bound:
                raise TooMuchPinnedError(
                    f"pins may keep {bound} blocks, and keep {taken}; this one would take"
                    f" {lease.block_count}"
                )
        lease.pinned_until = max(lease.pinned_until or now, now + seconds)

    def release(self, request_id: str) -> None:
        """End its pin, and renew the lease no more: it ends when nobody was told that it holds it
        any longer.

        Raises:
            UnknownLeaseError: there is none, or it is only promised, and not pinned.
        """
        lease = self._leases.get(request_id)
        if lease is None or not (lease.granted or lease.pinned_until is not None):
            raise UnknownLeaseError(f"no lease for request {request_id}")
        lease.pinned_until = None
        lease.ending = Cause.RELEASED

    def fence(self, worker: str, incarnation: str) -> None:
        """End what earlier incarnations of *worker* hold."""
        for lease in self._leases.values():
            old = {
                engine
                for engine in (*lease.returned, *(engine for engine, _ in lease.held))
                if engine[0] == worker and engine[1] < incarnation
            }
            if old:
                lease.held = {who: at for who, at in lease.held.items() if who[0] not in old}
                lease.ending = lease.ending or Cause.FENCED

    def collect(self, now: float) -> list[Ended]:
        """Return the held leases that have ended by *now*, and forget them."""
        ended = [
            Ended(request_id, cause)
            for request_id, lease in self._leases.items()
            if lease.granted and (cause := lease.over(now)) is not None
        ]
        for end in ended:
            del self._leases[end.request_id]
            self._ended[end.cause] += 1
        return ended

    def counts(self) -> LeaseCounts:
        held = sum(lease.granted for lease in self._leases.values())
        return LeaseCounts(len(self._leases) - held, held, dict(self._ended))

    def pinned_count(self, now: float) -> int:
        """Return how many leases, promised or held, are pinned."""
        return sum(lease.is_pinned(now) for lease in self._leases.values())

    def _pinned_blocks(self, now: float) -> int:
        return sum(lease.block_count for lease in self._leases.values() if lease.is_pinned(now))

    def claimed_count(self, now: float) -> int:
        """Return how many leases, promised or held, a reader holds."""
        return sum(
            any(until > now for until in lease.held.values()) for lease in self._leases.values()
        )

    def snapshot(self, now: float, limit: int) -> tuple[LeaseSnapshot, ...]:
        """Return the leases as they are at *now*, the oldest *limit*."""
        oldest = itertools.islice(self._leases.items(), limit)
        return tuple(lease.snapshot(request_id, now) for request_id, lease in oldest)
