"""The plan of one service, from all that was seen of it."""

import math

from twofold_operator.planning import names
from twofold_operator.planning.actions import Action, AddFinalizer, LookAgain, TellPools
from twofold_operator.planning.adapters import Adapters, service_invalid, sorted_out
from twofold_operator.planning.course import Course, Leg, course_of
from twofold_operator.planning.disruptions import shortage_ends, with_shortages
from twofold_operator.planning.ending import ending
from twofold_operator.planning.engines import adapters_of, pools_of
from twofold_operator.planning.making import applied, deleted, pruned, wanted_objects
from twofold_operator.planning.memory import Memory, read_memory, spec_of
from twofold_operator.planning.observed import Observed, Told
from twofold_operator.planning.ray_pods import stuck_times
from twofold_operator.planning.recalling import recalled
from twofold_operator.planning.reporting import (
    adapter_reports,
    bare_report,
    lost_reports,
    pool_reports,
    service_report,
)
from twofold_operator.planning.routers import foreseen
from twofold_operator.planning.settings import PlanSettings
from twofold_operator.planning.verdicts import stopped
from twofold_operator.resources import (
    InvalidSpecError,
    LLMService,
    ObjectMeta,
    parse_metadata,
    parse_service,
    parse_service_status,
)


def plan(observed: Observed, settings: PlanSettings, now: float) -> list[Action]:
    """Return what to do, in order; nothing when all is as it should be.

    *now* is in seconds since 1970. An object is applied before what needs it, and deleted after.
    """
    metadata = parse_metadata(observed.service)
    name = names.memory_name(metadata.name)
    memory = recalled(read_memory(observed.children.get(("ConfigMap", name))), observed)
    if metadata.is_leaving:
        return ending(observed, metadata, memory, settings, now)
    service, problem = _service(observed, metadata, memory)
    if service is None:
        why = service_invalid(metadata.name)
        lost = lost_reports(observed.adapters, why, now)
        return bare_report(observed, stopped("InvalidSpec", problem or ""), now) + lost
    adapters = sorted_out(service, observed.adapters)
    course = course_of(service, observed, adapters.names, memory, settings, now)
    course = with_shortages(course, observed, now)
    wanted = wanted_objects(course, observed, settings)
    actions: list[Action] = []
    if names.FINALIZER not in metadata.finalizers:
        actions.append(AddFinalizer())
    actions += applied(wanted, observed)
    for leg in course.legs:
        actions += _tell(leg, adapters)
    for leg in course.olds:
        actions += _end(leg, settings, now)
    actions += pruned(wanted, course, observed)
    if not course.waits_for(observed.unasked):  # else we would call it broken, and whole again
        actions += service_report(course, foreseen(observed, actions), problem, now)
        actions += pool_reports(course, observed, now)
        actions += adapter_reports(course, observed, adapters, now)
    return actions + _limits(course, observed, settings, now)


def _service(
    observed: Observed, metadata: ObjectMeta, memory: Memory
) -> tuple[LLMService | None, str | None]:
    """Return the service to make, and why it is not what the spec says.

    While the spec is bad it is the last good one, if there was one.
    """
    try:
        return parse_service(observed.service), None
    except InvalidSpecError as error:
        problem = str(error)
    if memory.good_spec is None:
        return None, problem
    try:
        spec = spec_of(memory.good_spec)
    except InvalidSpecError:
        return None, problem
    status = parse_service_status(observed.service)
    return LLMService(metadata=metadata, spec=spec, status=status), problem


def _tell(leg: Leg, adapters: Adapters) -> list[Action]:
    """Return what a revision's manager must be told; nothing, if it knows."""
    if leg.manager is None or leg.home is None:
        return []
    takes_adapters = leg.service.spec.model.lora is not None
    told = Told(
        pools_of(leg.remembered.engines, leg.revision, leg.aim),
        adapters_of(adapters.accepted) if takes_adapters else (),
    )
    if not told.pools:
        told = Told()
    return [] if leg.manager.told == told else [TellPools(leg.address, told)]


def _end(leg: Leg, settings: PlanSettings, now: float) -> list[Action]:
    """Delete what a leaving revision runs on, when nobody works there any more."""
    home, since = leg.home, leg.remembered.leaves_since
    if home is None or since is None or home["metadata"].get("deletionTimestamp"):
        return []
    if _may_go(leg) or now - since >= settings.ending_limit_seconds:
        return [deleted(home)]
    return []


def _may_go(leg: Leg) -> bool:
    if leg.aim.ends_now:
        return True
    is_told = leg.manager is not None and leg.manager.told == Told()
    return is_told and not leg.stand.workers


def _limits(course: Course, observed: Observed, settings: PlanSettings, now: float) -> list[Action]:
    """Return when to look again although nothing may have changed until then."""
    ends: list[float] = [
        leg.remembered.leaves_since + settings.ending_limit_seconds
        for leg in course.olds
        if leg.remembered.leaves_since is not None
    ]
    if course.overdue_at is not None:
        ends.append(course.overdue_at)
    ends += [leg.unseen_until for leg in course.legs if leg.unseen_until is not None]
    ends += stuck_times(course.legs, observed)
    ends += shortage_ends(course)
    left = [end - now for end in ends if now < end < math.inf]
    return [LookAgain(min(left))] if left else []
