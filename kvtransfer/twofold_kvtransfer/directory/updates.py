"""What a feeder tells the directory, and what it answers."""

import enum
from dataclasses import dataclass

from twofold_cluster.identity import Incarnation, WorkerId

MAX_BLOCKS_PER_UPDATE = 512
"""Others wait meanwhile, because Redis has only one thread. With ten million blocks an entry of
20,000 was built anew in 0.10 s (docs/performance.md), so a part like this took some 2.5 ms."""

Tier = str
"""Where a worker has a block: ``GPU``, ``CPU`` and so on, as the engine calls it."""

DEFAULT_TIER: Tier = "GPU"
"""Of an engine that names none because it has one cache only."""

TierBlocks = tuple[tuple[Tier, bytes], ...]
"""Blocks by their names, each with its tier."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A batch of one engine's: later ones are greater, also those of a later life of the engine.

    An engine that begins anew counts from 0 again, so its clock decides first.
    """

    at: float
    """Seconds since 1970 on the engine's clock; where that was set back, as before it was."""
    number: int


@dataclass(frozen=True, slots=True)
class DirectoryUpdate:
    """The net effect of batches *first* to ``position.number`` of one worker's engine.

    To apply it to the effect of any of these batches gives the same as to that of the one before
    *first*, so an update may come again, or overlap with the one of another feeder.
    """

    worker_id: WorkerId
    incarnation: Incarnation
    first: int
    position: Position
    clears: bool = False
    """What was held before is not any more."""
    degrades: bool = False
    """The worker may hold more than this and what is known before."""
    removed: TierBlocks = ()
    stored: TierBlocks = ()
    is_last_part: bool = True
    """False: more of the same batches follows."""


@dataclass(frozen=True, slots=True)
class Rebuild:
    """A part of all that one worker holds at *position*, which replaces what is known."""

    worker_id: WorkerId
    incarnation: Incarnation
    position: Position
    token: str
    """The same in all parts, and in no other rebuild."""
    is_first_part: bool
    is_last_part: bool
    degrades: bool
    stored: TierBlocks = ()


class Verdict(enum.StrEnum):
    """What became of an update."""

    APPLIED = "applied"
    KNOWN = "known"
    """The directory is as far already, or further."""
    UNKNOWN = "unknown"
    """The directory knows nothing to which this can be added: a rebuild has to be the first."""
    BUSY = "busy"
    """A rebuild is under way; ask again soon."""
    SUPERSEDED = "superseded"
    """Another rebuild has taken the place of this one."""
    FENCED = "fenced"
    """A newer incarnation of the worker is known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How the directory stands after an update."""

    verdict: Verdict
    degraded: bool
    """The worker may hold more than is listed."""
    refused: int
    """Blocks of this update that the directory has no room for."""
