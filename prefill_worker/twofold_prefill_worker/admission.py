"""What a prefill worker accepts."""

from twofold_cluster.errors import Fault
from twofold_engine.roles import InFlight, RolePolicy
from twofold_engine.settings import WorkerSettings


def refuse_when_busy(in_flight: InFlight, settings: WorkerSettings) -> Fault | None:
    """Name the fault when the bound of unprefilled requests is reached.

    A request that waits here can no longer be moved; one that is refused goes to another
    candidate at once.
    """
    if in_flight.unprefilled_count >= settings.max_unprefilled:
        return Fault.PREFILL_BUSY
    return None


ROLE = RolePolicy(admit=refuse_when_busy)
