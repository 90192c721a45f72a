"""How many workers serve: those that are seen, and of a silent pool manager those that were."""

from twofold_cluster.identity import Role
from twofold_operator.planning.course import Course, Leg


def ready_count(course: Course, role: Role) -> int:
    """Return how many workers are seen to serve."""
    return sum(leg.stand.active(role) for leg in course.legs)


def last_ready_count(course: Course, role: Role) -> int:
    """Return how many workers serve, as far as is known."""
    return sum(_last_active(leg, role) for leg in course.legs)


def last_updated_count(course: Course, role: Role) -> int:
    """Return the same of the wanted revision alone."""
    return _last_active(course.target, role)


def silence(course: Course) -> str | None:
    """Return whose workers may serve though nobody sees them; None: nobody's."""
    unseen = [leg.revision for leg in course.legs if leg.unseen_until is not None]
    if not unseen:
        return None
    return f"the pool manager of revision {unseen[0]} does not answer, and workers outlive it"


def _last_active(leg: Leg, role: Role) -> int:
    if leg.unseen_until is None:
        return leg.stand.active(role)
    return leg.remembered.active.get(role, 0)
