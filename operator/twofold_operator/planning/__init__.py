"""What to do for one LLMService: ``plan(observed, settings, now) -> list[Action]``, pure."""

from twofold_operator.planning.addresses import manager_addresses
from twofold_operator.planning.planning import plan
from twofold_operator.planning.redis import with_password
from twofold_operator.planning.settings import PlanSettings

__all__ = ["PlanSettings", "manager_addresses", "plan", "with_password"]
