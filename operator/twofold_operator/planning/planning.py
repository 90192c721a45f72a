"""The plan of one service, from all that was seen of it."""

from twofold_operator.planning.actions import Action
from twofold_operator.planning.observed import Observed
from twofold_operator.planning.settings import PlanSettings


def plan(observed: Observed, settings: PlanSettings, now: float) -> list[Action]:
    """Return what to do, in order; nothing when all is as it should be.

    *now* is in seconds since 1970. An object is applied before what needs it, and deleted after.
    """
    raise NotImplementedError
