"""How many pods of workers must stay while somebody drains nodes.

A pod is ready as soon as Ray listens in it, minutes before its engine serves. So it is we who say
when the next one may be evicted: when no worker is missing that is still expected.
"""

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from twofold_cluster.identity import Role
from twofold_operator.planning.course import Course, Leg
from twofold_operator.planning.memory import Shortage
from twofold_operator.planning.observed import Manifest, Observed, Phase
from twofold_operator.planning.ray_pods import is_ending, pods_of
from twofold_operator.planning.rollout import ROLES


def with_shortages(course: Course, observed: Observed, now: float) -> Course:
    """Return *course* with what is to be remembered of the workers that are missing."""
    if course.service.spec.ray.address is not None:  # the pods are somebody else's
        return course
    limit = course.service.spec.rollout.ready_deadline_seconds
    target, *olds = (_with_shortages(leg, observed, int(now), limit) for leg in course.legs)
    revisions = {leg.revision: leg.remembered for leg in (target, *olds)}
    memory = msgspec.structs.replace(course.memory, revisions=revisions)
    return replace(course, target=target, olds=tuple(olds), memory=memory)


def shortage_of(
    before: Shortage | None, ready: int, wanted: int, now: int, limit: int
) -> Shortage | None:
    """Return how many workers a role lacks that has so many *ready*, and lacked some *before*;
    None: nobody is missing.

    Who is not ready *limit* seconds after the first was missed is expected no more. Then those that
    are ready are enough, and one of them that is lost is missed anew.
    """
    enough = wanted if before is None else min(before.enough, wanted)
    if ready >= enough:
        return Shortage(enough=ready) if ready < wanted else None
    since = now if before is None or before.since is None else before.since
    short = Shortage(enough=enough, since=since)
    return Shortage(enough=ready) if _is_over(short, now, limit) else short


def shortage_ends(course: Course) -> list[float]:
    """Return when workers that are missing are expected no more, in seconds since 1970."""
    limit = course.service.spec.rollout.ready_deadline_seconds
    shortages = [each for leg in course.legs for each in leg.remembered.shortages.values()]
    return [each.since + limit for each in shortages if each.since is not None]


def min_available(
    course: Course, observed: Observed, role: Role, replicas: Mapping[str, int]
) -> int | None:
    """Return how many pods of a role must stay; None: there are none.

    *replicas* are those that the RayCluster of each revision is told to have. While a worker is
    expected none may go; else one may.
    """
    has_pods = is_awaited = False
    least = 0
    for leg in course.legs:
        pods = _staying(leg, observed, role)
        most = max(replicas[leg.revision], len(pods))
        shortage = leg.remembered.shortages.get(role)
        # Where some did not come in time, pods that never get ready, for want of a node say, count
        # for nothing.
        is_short = shortage is not None and shortage.since is None and not _is_silent(leg)
        least += sum(map(_is_ready, pods)) if is_short else most
        is_awaited |= shortage is not None and shortage.since is not None
        has_pods |= most > 0
    if not has_pods:
        return None
    return least if is_awaited else max(0, least - 1)


def _with_shortages(leg: Leg, observed: Observed, now: int, limit: int) -> Leg:
    before = leg.remembered.shortages
    found = {}
    for role in ROLES:
        shortage = before.get(role)
        if not _is_silent(leg):
            ready = _ready(leg, observed, role)
            shortage = shortage_of(shortage, ready, leg.aim.of(role), now, limit)
        elif shortage is not None and _is_over(shortage, now, limit):
            shortage = None
        if shortage is not None:
            found[role] = shortage
    return replace(leg, remembered=msgspec.structs.replace(leg.remembered, shortages=found))


def _is_over(shortage: Shortage, now: int, limit: int) -> bool:
    return shortage.since is not None and now - shortage.since >= limit


def _ready(leg: Leg, observed: Observed, role: Role) -> int:
    """Count the ready workers in pods that do not end."""
    staying = {pod["metadata"]["name"] for pod in _staying(leg, observed, role)}
    return sum(
        worker.role is role and worker.phase is Phase.READY and worker.node in staying
        for worker in leg.stand.workers
    )


def _is_silent(leg: Leg) -> bool:
    """Tell whether its workers may serve though nobody sees them."""
    return leg.unseen_until is not None


def _staying(leg: Leg, observed: Observed, role: Role) -> list[Manifest]:
    return [pod for pod in pods_of(leg, observed, role) if not is_ending(pod)]


def _is_ready(pod: Manifest) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
