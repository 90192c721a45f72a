"""What is in the way of a revision's workers, as it is told to people."""

from twofold_cluster.identity import Role
from twofold_operator.planning import names
from twofold_operator.planning.course import Leg
from twofold_operator.planning.observed import Observed, Phase
from twofold_operator.planning.ray_pods import stuck_pods
from twofold_operator.planning.reported import reported

MAX_TROUBLES = 3


def troubles(leg: Leg, observed: Observed, now: float, role: Role | None = None) -> list[str]:
    """Say what workers that are not ready do, the dead first, and which pods do not end."""
    stuck = stuck_pods(leg, observed, now)[:MAX_TROUBLES]
    if leg.manager is None:
        label = f"{names.REVISION_LABEL}={leg.revision}"
        return [
            f"their pool manager does not answer; see kubectl describe pods -l {label}",
            *stuck,
            *reported(leg.home),
        ]
    found = sorted(
        (
            (worker.phase is not Phase.DEAD, f"{worker.worker_id} is {worker.phase}", worker)
            for worker in leg.stand.workers
            if role in (None, worker.role) and worker.phase not in (Phase.READY, Phase.DRAINING)
        ),
        key=lambda found: found[:2],
    )
    said = [f"{text}: {w.message}" if w.message else text for _, text, w in found[:MAX_TROUBLES]]
    return [*said, *stuck]
