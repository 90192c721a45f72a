"""How many workers serve: those that are seen, and of a silent pool manager those that were."""

from dataclasses import dataclass

from twofold_cluster.identity import Role
from twofold_operator.planning import names
from twofold_operator.planning.addresses import address_of
from twofold_operator.planning.course import Course, Leg
from twofold_operator.planning.observed import Observed, Phase
from twofold_operator.planning.recalling import homes_of, revision_on
from twofold_operator.resources import WORKER_POOL, RoleStatus, parse_service_status


@dataclass(frozen=True, slots=True)
class Unseen:
    """Workers that may serve though nobody sees them."""

    prefixes: tuple[str, ...]
    """Of their ids."""
    message: str


def ready_count(course: Course, role: Role) -> int:
    """Return how many workers are seen to serve."""
    return sum(leg.stand.active(role) for leg in course.legs)


def last_ready_count(course: Course, role: Role) -> int:
    """Return how many workers serve, as far as is known."""
    return sum(_last_active(leg, role) for leg in course.legs)


def last_updated_count(course: Course, role: Role) -> int:
    """Return the same of the wanted revision alone."""
    return _last_active(course.target, role)


def unseen(course: Course) -> Unseen | None:
    """Return whose workers may serve though nobody sees them; None: nobody's."""
    revisions = [leg.revision for leg in course.legs if leg.unseen_until is not None]
    if not revisions:
        return None
    name = course.service.metadata.name
    return Unseen(
        prefixes=tuple(f"{names.cluster_name(name, revision)}-" for revision in revisions),
        message=f"the pool manager of revision {revisions[0]} does not answer, and workers outlive "
        "it",
    )


def silence(course: Course) -> str | None:
    """Say whose workers may serve though nobody sees them; None: nobody's."""
    found = unseen(course)
    return None if found is None else found.message


def seen_status(observed: Observed, role: Role) -> RoleStatus | None:
    """Return the workers of a service that cannot be planned, as far as they are seen; None: it
    never had any.

    What was wanted last still is. Where a pool manager is silent, its workers count as before.
    """
    metadata = observed.service["metadata"]
    status = parse_service_status(observed.service)
    before = status.prefill if role is Role.PREFILL else status.decode
    workers = [worker for manager in observed.managers.values() for worker in manager.workers]
    ready = sum(w.role is role and w.phase is Phase.READY and not w.standby for w in workers)
    pool = observed.children.get((WORKER_POOL.kind, names.pool_name(metadata["name"], role)))
    if before is None:
        wanted = 0 if pool is None else pool["spec"].get("replicas", 0)
        found = RoleStatus.of(desired=wanted, ready=ready, updated=0)
        return found if wanted or ready else None
    addresses = {
        address_of(metadata["namespace"], names.pools_name(metadata["name"], revision_on(home)))
        for home in homes_of(observed)
    }
    if addresses - observed.managers.keys():
        ready = max(ready, before.ready)
    return RoleStatus.of(desired=before.desired, ready=ready, updated=min(ready, before.updated))


def _last_active(leg: Leg, role: Role) -> int:
    if leg.unseen_until is None:
        return leg.stand.active(role)
    return leg.remembered.active.get(role, 0)
