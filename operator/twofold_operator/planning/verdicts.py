"""What is to be said of a service: its conditions, for people and for programs."""

from twofold_cluster.identity import Role
from twofold_operator.planning import names, routers
from twofold_operator.planning.children import ray_cluster, router
from twofold_operator.planning.conditions import Verdict
from twofold_operator.planning.counting import last_ready_count, ready_count, silence
from twofold_operator.planning.course import Course
from twofold_operator.planning.observed import Manifest, Observed, Phase
from twofold_operator.planning.ray_pods import stuck_pods
from twofold_operator.planning.reported import reported
from twofold_operator.planning.rollout import ROLES, needed
from twofold_operator.planning.troubles import MAX_TROUBLES, troubles

RAY_MISSING = (
    "the cluster has no RayCluster API; install KubeRay's operator, or set spec.ray.address"
)


def verdicts(course: Course, observed: Observed, problem: str | None, now: float) -> list[Verdict]:
    """Return all conditions. *problem*: why the spec cannot be followed, if it cannot."""
    pools = {role: pool_verdict(course, observed, role, now) for role in ROLES}
    router = _router_verdict(course, observed)
    ready = _ready_verdict(course, observed, [*pools.values(), router], problem)
    return [
        ready,
        _progressing_verdict(course, observed, problem, now),
        _degraded_verdict(course, observed, problem, now),
        *pools.values(),
        router,
    ]


def stopped(reason: str, message: str) -> list[Verdict]:
    """Return the conditions of a service of which nothing can be planned."""
    return [
        Verdict("Ready", False, reason, message),
        Verdict("Progressing", False, reason, message),
        Verdict("Degraded", True, reason, message),
    ]


def pool_verdict(course: Course, observed: Observed, role: Role, now: float) -> Verdict:
    """Return what is to be said of the workers of one role."""
    kind = f"{str(role).capitalize()}Ready"
    desired, ready = course.desired[role], ready_count(course, role)
    if not desired:
        return Verdict(kind, True, "ScaledToZero", f"no {role} worker is wanted")
    message = f"{ready} of {desired} {role} workers are ready"
    if ready >= desired:
        return Verdict(kind, True, "WorkersReady", message)
    if silent := silence(course):
        last = last_ready_count(course, role)
        message = f"{last} of {desired} {role} workers were ready when last seen; {silent}"
        return Verdict(kind, None, "ManagerUnreachable", message)
    why = troubles(course.target, observed, now, role)
    return Verdict(kind, False, "WorkersMissing", "; ".join([message, *why]))


def _router_verdict(course: Course, observed: Observed) -> Verdict:
    deployment = _router_deployment(course, observed)
    if routers.are_available(deployment):
        return Verdict("RouterReady", True, "RoutersAvailable", "a router takes requests")
    name = names.router_name(course.service.metadata.name)
    message = (
        "no router is ready; routers wait for the first workers. "
        f"If workers are ready, see kubectl describe deployment {name}"
    )
    message = "; ".join([message, *reported(deployment)])
    return Verdict("RouterReady", False, "RoutersUnavailable", message)


def _router_deployment(course: Course, observed: Observed) -> Manifest | None:
    name = names.router_name(course.service.metadata.name)
    return observed.children.get(("Deployment", name))


def _stuck_routers(course: Course, observed: Observed) -> str | None:
    """Return why routers stay as they were before a change; None: they do not.

    While there is none at all, :func:`_router_verdict` says why.
    """
    deployment = _router_deployment(course, observed)
    if not routers.are_available(deployment) or not routers.are_stuck(deployment):
        return None
    if not _has_whom_to_route_to(course):
        return None
    selected = names.labels(course.service.metadata.name, router.COMPONENT)
    labels = ",".join(f"{k}={selected[k]}" for k in (names.INSTANCE_LABEL, names.COMPONENT_LABEL))
    what = "routers do not get ready with what was changed, and those before serve"
    return "; ".join([what, *reported(deployment), f"see kubectl describe pods -l {labels}"])


def _has_whom_to_route_to(course: Course) -> bool:
    """Tell whether new routers can get ready: they wait for workers, which may take long."""
    roles = needed(course.desired)
    return Role.DECODE in roles and all(course.target.stand.active(role) for role in roles)


def _ready_verdict(
    course: Course, observed: Observed, parts: list[Verdict], problem: str | None
) -> Verdict:
    if problem is not None:
        message = f"{problem}. The last good spec is served until this is mended"
        return Verdict("Ready", False, "InvalidSpec", message)
    if observed.refused:
        return Verdict("Ready", False, "ApplyRefused", refusal(observed))
    if _lacks_ray(course, observed):
        return Verdict("Ready", False, "RayMissing", RAY_MISSING)
    for role in _missing(course):
        if role is Role.DECODE or not _does_without_prefill(course):
            part = next(p for p in parts if p.type == f"{str(role).capitalize()}Ready")
            return Verdict("Ready", False, part.type.replace("Ready", "NotReady"), part.message)
    if not course.desired[Role.DECODE]:
        pool = names.pool_name(course.service.metadata.name, Role.DECODE)
        message = f"no decode worker is wanted, and nobody else answers; scale WorkerPool {pool}"
        return Verdict("Ready", False, "ScaledToZero", message)
    router = parts[-1]
    if not router.holds:
        return Verdict("Ready", False, "RouterNotReady", router.message)
    alone = " by decode workers alone" if _missing(course) else ""
    message = f"requests are served{alone}"
    if silent := silence(course):
        message = f"routers take requests; {silent}"
    return Verdict("Ready", True, "Serving", message)


def _missing(course: Course) -> list[Role]:
    """Return the roles that are wanted and that nobody has, as far as is known."""
    if silence(course):
        return []
    return [role for role in ROLES if course.desired[role] and not ready_count(course, role)]


def _does_without_prefill(course: Course) -> bool:
    """Tell whether losing all prefill workers makes the service slower, and no more.

    One that has never been whole is not ready yet, though its routers may serve.
    """
    if course.service.spec.disaggregation.on_no_prefill == "fail":
        return False
    has_served = any(leg.remembered.has_served for leg in course.legs)
    return has_served and ready_count(course, Role.DECODE) > 0


def _progressing_verdict(
    course: Course, observed: Observed, problem: str | None, now: float
) -> Verdict:
    kind, revision = "Progressing", course.target.revision
    if problem is not None:
        return Verdict(kind, False, "InvalidSpec", problem)
    if _is_overdue(course, now):
        return Verdict(kind, False, "DeadlineExceeded", _overdue_message(course, observed, now))
    if stuck := _stuck_routers(course, observed):
        return Verdict(kind, False, "RoutersStuck", stuck)
    if course.is_complete and not course.olds:
        left = routers.what_is_left(_router_deployment(course, observed))
        if left is not None and _has_whom_to_route_to(course):
            return Verdict(kind, True, "RouterRollingOut", left)
        return Verdict(kind, False, "Complete", f"revision {revision} has all workers")
    if course.olds:
        others = ", ".join(leg.revision for leg in course.olds)
        message = f"revision {revision} takes over from {others}"
        if course.is_complete and course.held:
            message += "; routers that know the Redis before are being replaced"
        return Verdict(kind, True, "RollingOut", message)
    if course.target.unseen_until is not None:
        message = f"it is not known which workers revision {revision} has; {silence(course)}"
        return Verdict(kind, None, "ManagerUnreachable", message)
    if not course.target.remembered.has_served:
        return Verdict(kind, True, "Starting", f"revision {revision} starts")
    return Verdict(kind, True, "Scaling", f"revision {revision} lacks workers")


def _degraded_verdict(
    course: Course, observed: Observed, problem: str | None, now: float
) -> Verdict:
    if problem is not None:
        return Verdict("Degraded", True, "InvalidSpec", problem)
    if observed.refused:
        return Verdict("Degraded", True, "ApplyRefused", refusal(observed))
    if _lacks_ray(course, observed):
        return Verdict("Degraded", True, "RayMissing", RAY_MISSING)
    if _is_overdue(course, now):
        return Verdict(
            "Degraded", True, "DeadlineExceeded", _overdue_message(course, observed, now)
        )
    if stuck := _stuck_routers(course, observed):
        return Verdict("Degraded", True, "RoutersStuck", stuck)
    if stuck_ones := _stuck_pods(course, observed, now):
        return Verdict("Degraded", True, "PodsStuck", "; ".join(stuck_ones[:MAX_TROUBLES]))
    for leg in course.legs:
        if leg.manager is not None and leg.manager.refusal:
            message = f"the pool manager of revision {leg.revision} says: {leg.manager.refusal}"
            return Verdict("Degraded", True, "PoolsRefused", message)
        if leg.manager is None and leg.home is not None and leg.remembered.has_served:
            message = f"the pool manager of revision {leg.revision} does not answer"
            return Verdict("Degraded", True, "ManagerUnreachable", message)
        dead = [w for w in leg.stand.workers if w.phase is Phase.DEAD]
        if dead and not leg.aim.is_leaving:
            return Verdict("Degraded", True, "WorkersDead", "; ".join(troubles(leg, observed, now)))
    if _missing(course) == [Role.PREFILL] and _does_without_prefill(course):
        message = "no prefill worker is ready, so that decode workers compute the prompts"
        why = troubles(course.target, observed, now, Role.PREFILL)
        return Verdict("Degraded", True, "PrefillMissing", "; ".join([message, *why]))
    if warnings := _warnings(course):
        return Verdict("Degraded", True, "WorkersWarn", "; ".join(warnings[:MAX_TROUBLES]))
    return Verdict("Degraded", False, "AsExpected", "nothing is wrong")


def _stuck_pods(course: Course, observed: Observed, now: float) -> list[str]:
    staying = (leg for leg in course.legs if not leg.aim.is_leaving)
    return [text for leg in staying for text in stuck_pods(leg, observed, now)]


def _warnings(course: Course) -> list[str]:
    """Say what ready workers are not that was asked for."""
    return [
        f"{worker.worker_id}: {worker.warning}"
        for leg in course.legs
        if not leg.aim.is_leaving
        for worker in sorted(leg.stand.workers, key=lambda worker: worker.worker_id)
        if worker.warning and worker.phase is Phase.READY
    ]


def _overdue_message(course: Course, observed: Observed, now: float) -> str:
    limit = course.service.spec.rollout.ready_deadline_seconds
    what = f"revision {course.target.revision} lacks workers, and none got ready for {limit} s"
    if any(leg.stand.can_serve(course.desired) for leg in course.olds):
        what += "; the one before keeps serving. Mend the spec, or apply the one before"
    return "; ".join([what, *troubles(course.target, observed, now)])


def _is_overdue(course: Course, now: float) -> bool:
    return course.overdue_at is not None and now >= course.overdue_at


def refusal(observed: Observed) -> str:
    """Say what the API server does not take, or has no time for."""
    return f"not carried out: {'; '.join(observed.refused[:MAX_TROUBLES])}"


def _lacks_ray(course: Course, observed: Observed) -> bool:
    return course.service.spec.ray.address is None and ray_cluster.KIND not in observed.apis
