"""One lease: what a holder promises to the readers of a request's blocks."""

import enum
from dataclasses import dataclass, field


class Cause(enum.StrEnum):
    """Why a lease has ended."""

    READ = "read"
    """All ranks of a reader have given it back."""
    EXPIRED = "expired"
    """Nobody claimed it in time."""
    FENCED = "fenced"
    """Its reader came back as a later incarnation, which knows nothing of it."""
    RELEASED = "released"
    """Somebody ended it by hand."""
    UNPINNED = "unpinned"
    """Its pin is over, and nobody claims it either. That nobody reads it was to be expected."""


Engine = tuple[str, str]
"""A reading worker and its incarnation."""


@dataclass(frozen=True, slots=True)
class Reader:
    """One rank of an engine that fetches blocks."""

    worker: str
    incarnation: str
    rank: int = 0
    count: int = 1
    """Ranks of that engine that read from this process."""
    part: tuple[int, int] = (0, 1)
    """What it reads of each block here: index and count, as of :meth:`BlockMap.part`."""

    @property
    def engine(self) -> Engine:
        return self.worker, self.incarnation


class LeaseState(enum.Enum):
    PROMISED = "promised"
    HELD = "held"
    ENDING = "ending"
    """It is over as soon as nobody holds it."""


@dataclass(frozen=True, slots=True)
class LeaseSnapshot:
    request_id: str
    state: LeaseState
    left_seconds: float | None
    """Until it ends if nobody renews it or pins it longer; None while it is only promised."""
    age_seconds: float | None
    """Since it was granted; None while it is only promised."""
    readers: tuple[Reader, ...]
    """Who holds it now."""
    pinned_seconds: float | None = None
    """Until when it does not end by itself; None: it is not pinned."""


@dataclass(slots=True)
class Lease:
    """Mutable; only its table changes it."""

    granted: bool = False
    granted_at: float = 0.0
    expires: float = 0.0
    """When nobody can hold it any more; counts once it is granted."""
    held: dict[tuple[Engine, int], float] = field(default_factory=dict)
    """Until when each rank of a reader was told that it holds it."""
    returned: dict[Engine, set[int]] = field(default_factory=dict)
    """The ranks that need it no more."""
    ending: Cause | None = None
    """Why it is over as soon as nobody holds it."""
    block_count: int = 0
    """That it keeps; known once it is granted."""
    pinned_until: float | None = None
    """Before that it is not over; None: whenever it is."""

    def is_pinned(self, now: float) -> bool:
        return self.pinned_until is not None and now < self.pinned_until

    def over(self, now: float) -> Cause | None:
        """Say why nobody may claim it any more; None: somebody may."""
        if self.is_pinned(now):
            return None
        if self.ending is not None and all(until <= now for until in self.held.values()):
            return self.ending
        if not self.granted or now < self.expires:
            return None
        return Cause.EXPIRED if self.pinned_until is None else Cause.UNPINNED

    def snapshot(self, request_id: str, now: float) -> LeaseSnapshot:
        held = {who: until for who, until in self.held.items() if until > now}
        readers = tuple(Reader(*engine, rank) for engine, rank in held)
        pinned_until = self.pinned_until if self.is_pinned(now) else None
        pinned_seconds = None if pinned_until is None else pinned_until - now
        if not self.granted:
            state = LeaseState.PROMISED
            return LeaseSnapshot(request_id, state, None, None, readers, pinned_seconds)
        ending = self.ending is not None
        ends = max(held.values(), default=now) if ending else self.expires
        return LeaseSnapshot(
            request_id,
            LeaseState.ENDING if ending else LeaseState.HELD,
            max(0.0, ends - now, pinned_seconds or 0.0),
            now - self.granted_at,
            readers,
            pinned_seconds,
        )
