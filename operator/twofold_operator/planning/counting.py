"""How many workers serve: those that are seen, and of a silent pool manager those that were."""

from dataclasses import dataclass

from twofold_cluster.identity import Role
from twofold_operator.planning import names
from twofold_operator.planning.course import Course, Leg


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


def _last_active(leg: Leg, role: Role) -> int:
    if leg.unseen_until is None:
        return leg.stand.active(role)
    return leg.remembered.active.get(role, 0)
