"""How to deal out GPUs: the layout that serves the most requests on time, by simulated runs."""

from twofold_sim.planning.errors import (
    NoRoomError,
    PlanningError,
    TooFewRequestsError,
    UnmeetableError,
)
from twofold_sim.planning.layout import Layout, Pairing
from twofold_sim.planning.plan import Candidate, Plan
from twofold_sim.planning.resource import render_resource
from twofold_sim.planning.searching import Question, search
from twofold_sim.planning.tables import plan_table, plan_text
from twofold_sim.planning.trial import Objective

__all__ = [
    "Candidate",
    "Layout",
    "NoRoomError",
    "Objective",
    "Pairing",
    "Plan",
    "PlanningError",
    "Question",
    "TooFewRequestsError",
    "UnmeetableError",
    "plan_table",
    "plan_text",
    "render_resource",
    "search",
]
