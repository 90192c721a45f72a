"""What is in the way of a revision's workers, as it is told to people."""

from collections.abc import Collection

from twofold_cluster.identity import Role
from twofold_operator.planning import names
from twofold_operator.planning.children.pool_manager import HEAD_COMPONENT
from twofold_operator.planning.course import Leg
from twofold_operator.planning.observed import Observed, Phase
from twofold_operator.planning.ray_pods import is_ending, pods_of, stuck_pods
from twofold_operator.planning.reported import reported, reported_refusal, reported_unplaced
from twofold_operator.planning.rollout import ROLES

MAX_TROUBLES = 3


def troubles(leg: Leg, observed: Observed, now: float, role: Role | None = None) -> list[str]:
    """Say what workers that are not ready do, the dead first, and what is in the way of pods."""
    stuck = stuck_pods(leg, observed, now)[:MAX_TROUBLES]
    roles = ROLES if role is None else (role,)
    waiting = [pod for one in (HEAD_COMPONENT, *roles) for pod in pods_of(leg, observed, one)]
    unplaced = reported_unplaced(pod for pod in waiting if not is_ending(pod))[:MAX_TROUBLES]
    if leg.manager is None:
        label = f"{names.REVISION_LABEL}={leg.revision}"
        silent = f"their pool manager does not answer; see kubectl describe pods -l {label}"
        return [silent, *stuck, *reported(leg.home), *unplaced]
    return [*_unready(leg, roles), *stuck, *reported_refusal(leg.home), *unplaced]


def _unready(leg: Leg, roles: Collection[Role]) -> list[str]:
    found = sorted(
        (
            (worker.phase is not Phase.DEAD, f"{worker.worker_id} is {worker.phase}", worker)
            for worker in leg.stand.workers
            if worker.role in roles and worker.phase not in (Phase.READY, Phase.DRAINING)
        ),
        key=lambda found: found[:2],
    )
    return [f"{text}: {w.message}" if w.message else text for _, text, w in found[:MAX_TROUBLES]]
