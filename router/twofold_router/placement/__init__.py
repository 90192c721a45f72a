"""Which workers serve a request. Pure: the clock is an argument, and nothing here does I/O.

``policy`` names the policies; ``placer`` is the state machine that all of them share.
"""

from twofold_router.placement.interface import (
    BlocksChange,
    Decision,
    Dispatch,
    Mode,
    Outcome,
    Placement,
    PlacementRequest,
    PlacementSettings,
    PlacementSnapshot,
    PromptUsage,
    Reason,
    Refuse,
    WorkerCounts,
)
from twofold_router.placement.placer import Placer
from twofold_router.placement.policy import POLICIES

__all__ = [
    "POLICIES",
    "BlocksChange",
    "Decision",
    "Dispatch",
    "Mode",
    "Outcome",
    "Placement",
    "PlacementRequest",
    "PlacementSettings",
    "PlacementSnapshot",
    "Placer",
    "PromptUsage",
    "Reason",
    "Refuse",
    "WorkerCounts",
    "make_placement",
]


def make_placement(policy: str, settings: PlacementSettings) -> Placement:
    """Make a placement by the name of its policy, one of ``POLICIES``."""
    return Placer(POLICIES[policy], settings)
