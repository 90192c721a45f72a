"""What the scheduler's side of the connector tells the ranks, once a step."""

from dataclasses import dataclass, field

from twofold_kvtransfer.prefixes import Pull
from twofold_kvtransfer.sources import Source


@dataclass(frozen=True, slots=True)
class Fetch:
    """Blocks that a request needs, and where they go."""

    request_id: str
    source: Source | None
    """None: its params named none, so the fetch fails; never is a prompt computed unseen."""
    local: tuple[int, ...]


@dataclass(slots=True)
class Orders:
    """In the order in which they are carried out."""

    promised: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    granted: dict[str, int] = field(default_factory=dict)
    """With how many blocks each keeps."""
    awaited: list[Source] = field(default_factory=list)
    """Of requests that wait for blocks of their own: their leases are kept alive."""
    fetches: list[Fetch] = field(default_factory=list)
    abandoned: list[Source] = field(default_factory=list)
    """Of requests that need no blocks, or that nobody wants any more."""
    pulls: list[Pull] = field(default_factory=list)
    """Prefixes that requests wait for before they are scheduled."""
    dropped_pulls: list[str] = field(default_factory=list)
    """Of requests that have ended, or whose pull has failed in one of the ranks."""

    @property
    def is_empty(self) -> bool:
        return not (
            self.promised
            or self.withdrawn
            or self.granted
            or self.awaited
            or self.fetches
            or self.abandoned
            or self.pulls
            or self.dropped_pulls
        )
