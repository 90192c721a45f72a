"""Which workers serve a request. Pure: the clock is an argument, and nothing here does I/O."""

from collections.abc import Callable, Mapping

from twofold_router.placement.interface import (
    Decision,
    Dispatch,
    Mode,
    Placement,
    PlacementRequest,
    PlacementSettings,
    PlacementSnapshot,
    Reason,
    Refuse,
    WorkerCounts,
)
from twofold_router.placement.least_loaded import LeastLoaded

__all__ = [
    "POLICIES",
    "Decision",
    "Dispatch",
    "LeastLoaded",
    "Mode",
    "Placement",
    "PlacementRequest",
    "PlacementSettings",
    "PlacementSnapshot",
    "Reason",
    "Refuse",
    "WorkerCounts",
]

POLICIES: Mapping[str, Callable[[PlacementSettings], Placement]] = {"least-loaded": LeastLoaded}
"""The policies by the name that ``--policy`` takes."""
