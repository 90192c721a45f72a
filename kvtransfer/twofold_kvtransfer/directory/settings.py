"""How much the directory may keep, and for how long."""

import math
from dataclasses import dataclass, fields

from twofold_cluster.errors import TwofoldError


class InvalidDirectorySettingsError(TwofoldError):
    """A setting that the directory cannot work with."""


@dataclass(frozen=True, slots=True)
class DirectorySettings:
    """Of one service's directory. Everybody who writes to it should have the same."""

    max_holdings: int = 5_000_000
    """One block in one tier of one worker is a holding. What is beyond is not taken in, and the
    worker's entry is degraded. At 26 bytes for a block that only one worker has, these take 130 MB:
    the chart's Valkey has 256, and the membership stands in it."""
    max_blocks_per_worker: int = 1_000_000
    """In each tier, unless the worker's own capacity is smaller. Beyond, the same happens."""
    ttl_seconds: float = 30.0
    """A worker that no feeder speaks of for so long holds nothing any more."""
    fence_seconds: float = 600.0
    """How long an incarnation that has ended cannot come back, if no newer one follows it."""
    rebuild_lock_seconds: float = 5.0
    """How long a rebuild may pause before another feeder may begin its own."""
    max_rebuilds: int = 4
    """At once. When Redis comes back empty, a thousand feeders want to fill it, and the membership
    stands in the same Redis."""
    shards_per_sweep: int = 32
    """Of 65,536, in one step of Redis' only thread; others have their turn between the steps."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise InvalidDirectorySettingsError(f"{field.name} is {value}, not above zero")
