"""Policies to compare with, behind the router's own interface.

``Placer(SIM_POLICIES[name], settings)`` runs each of them in the router's state machine.
"""

from twofold_sim.policies.by_name import ABLATIONS, SIM_POLICIES

__all__ = ["ABLATIONS", "SIM_POLICIES"]
