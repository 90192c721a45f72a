"""Blocks that wait for the engine that will read them, each request's under a lease."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True)
class Lease:
    """What leg 1 of one request has left."""

    block_numbers: Sequence[int]
    expires_at: float
    """In the caller's clock."""


class Leases:
    """What is lent is in ``_leases`` from the end of leg 1 until it is read, dropped or expired.

    The rules are those of vLLM's NixlConnector (nixl/base_worker.py): a lease lasts
    *duration_seconds*; a heartbeat makes it last two thirds of that from now on, if that is longer.
    """

    def __init__(self, duration_seconds: float) -> None:
        self.duration_seconds = duration_seconds
        self.expired_count = 0
        """Ever, as the next one."""
        self.late_count = 0
        """Reads that came after the end of their lease."""
        self._leases: dict[str, Lease] = {}

    def __len__(self) -> int:
        return len(self._leases)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._leases

    def lend(self, request_id: str, block_numbers: Sequence[int], now: float) -> None:
        self._leases[request_id] = Lease(block_numbers, now + self.duration_seconds)

    def is_lent(self, request_id: str, block_numbers: Sequence[int]) -> bool:
        """Tell whether these are the blocks that the request has left."""
        lease = self._leases.get(request_id)
        return lease is not None and list(lease.block_numbers) == list(block_numbers)

    def renew(self, request_id: str, now: float) -> None:
        """Take a heartbeat; for what is no longer lent it changes nothing."""
        lease = self._leases.get(request_id)
        if lease is not None:
            lease.expires_at = max(lease.expires_at, now + self.duration_seconds * 2 / 3)

    def read(self, request_id: str) -> bool:
        """End a lease whose blocks were read. Return whether it had lasted so long."""
        if self._leases.pop(request_id, None) is None:
            self.late_count += 1
            return False
        return True

    def drop(self, request_id: str) -> bool:
        """End a lease without a reader. Return whether there was one."""
        return self._leases.pop(request_id, None) is not None

    def expire(self, now: float) -> list[str]:
        """End the leases whose time is over, and return whose they were."""
        over = [request_id for request_id, it in self._leases.items() if it.expires_at <= now]
        for request_id in over:
            del self._leases[request_id]
        self.expired_count += len(over)
        return over


class BlockNumbers:
    """Gives blocks the numbers that ``remote_block_ids`` holds.

    The model knows its blocks by their content. An engine's numbers are slots of its memory; these
    go round, which is all that a reader can tell of them.
    """

    def __init__(self, block_count: int) -> None:
        self._block_count = block_count
        self._next = 0

    def take(self, count: int) -> list[int]:
        first, self._next = self._next, (self._next + count) % self._block_count
        return [(first + offset) % self._block_count for offset in range(count)]
