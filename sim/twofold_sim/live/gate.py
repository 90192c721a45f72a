"""What an engine has accepted and not answered, and when it takes no more.

A worker of Twofold refuses when it has enough (twofold_engine.gate): an engine that plays one does
so too. By itself vLLM queues without a bound, and so does an engine without limits here.
"""

from dataclasses import dataclass

from twofold_cluster.errors import Fault
from twofold_cluster.identity import Role


@dataclass(frozen=True, slots=True)
class GateLimits:
    """None: no limit."""

    max_unprefilled: int | None = None
    """Requests without a first token, at an engine that does not decode."""
    max_in_flight: int | None = None
    """Requests, at an engine that decodes."""


NO_LIMITS = GateLimits()


class Gate:
    """Counts requests from their admission to their end."""

    def __init__(self, limits: GateLimits) -> None:
        self._limits = limits
        self.request_count = 0
        self.unprefilled_count = 0
        self.is_closed = False

    def why_not(self, role: Role) -> Fault | None:
        """Name what speaks against another request; None: nothing."""
        limits = self._limits
        if self.is_closed:
            return Fault.DRAINING
        if role.decodes:
            is_full = _reached(self.request_count, limits.max_in_flight)
            return Fault.DECODE_BUSY if is_full else None
        is_full = _reached(self.unprefilled_count, limits.max_unprefilled)
        return Fault.PREFILL_BUSY if is_full else None

    def enter(self) -> None:
        self.request_count += 1
        self.unprefilled_count += 1

    def prefilled(self) -> None:
        self.unprefilled_count -= 1

    def leave(self, *, was_prefilled: bool) -> None:
        self.request_count -= 1
        if not was_prefilled:
            self.unprefilled_count -= 1


def _reached(count: int, limit: int | None) -> bool:
    return limit is not None and count >= limit
