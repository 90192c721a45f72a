"""What a decode worker accepts, and what it does beside its engine."""

from twofold_cluster.errors import Fault
from twofold_decode_worker.pairing import keep_pairs_warm
from twofold_engine.roles import InFlight, RolePolicy
from twofold_engine.settings import WorkerSettings


def refuse_when_full(in_flight: InFlight, settings: WorkerSettings) -> Fault | None:
    """Name the fault when the engine's batch and its queue are full."""
    if in_flight.request_count >= settings.max_in_flight:
        return Fault.DECODE_BUSY
    return None


ROLE = RolePolicy(admit=refuse_when_full, accompany=keep_pairs_warm)
