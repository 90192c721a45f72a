"""A cluster in virtual time: the router's own placement before workers that only take time."""

from twofold_sim.virtual.errors import InvalidIncidentError, InvalidSetupError
from twofold_sim.virtual.incidents import Incident, check_incidents, parse_incident
from twofold_sim.virtual.replaying import Replay, Replayed
from twofold_sim.virtual.setup import EngineCluster, PrefillPool, Reporting, Setup, worker_ids
from twofold_sim.virtual.sweeping import Requests, run, sweep

__all__ = [
    "EngineCluster",
    "Incident",
    "InvalidIncidentError",
    "InvalidSetupError",
    "PrefillPool",
    "Replay",
    "Replayed",
    "Reporting",
    "Requests",
    "Setup",
    "check_incidents",
    "parse_incident",
    "run",
    "sweep",
    "worker_ids",
]
