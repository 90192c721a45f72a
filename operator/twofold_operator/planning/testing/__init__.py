"""Doubles of what a plan is followed in: a cluster, its pool managers and its routers."""

from twofold_operator.planning.testing.managers import ManagerDouble
from twofold_operator.planning.testing.world import World

__all__ = ["ManagerDouble", "World"]
