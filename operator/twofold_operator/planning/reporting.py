"""The statuses of a service and of what belongs to it, and the events of their changes."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Literal

import msgspec

from twofold_cluster.identity import Role
from twofold_operator.planning import names
from twofold_operator.planning.actions import Action, RecordEvent, SetStatus
from twofold_operator.planning.adapters import Adapters, adapter_status, lost_status
from twofold_operator.planning.children import router
from twofold_operator.planning.conditions import Verdict, updated
from twofold_operator.planning.counting import (
    last_ready_count,
    last_updated_count,
    seen_status,
    unseen,
)
from twofold_operator.planning.course import Course
from twofold_operator.planning.observed import Manifest, Observed, Reference
from twofold_operator.planning.rollout import ROLES
from twofold_operator.planning.verdicts import pool_verdict, stopped, verdicts
from twofold_operator.resources import (
    API_VERSION,
    LLM_SERVICE,
    LORA_ADAPTER,
    WORKER_POOL,
    LLMServiceStatus,
    LoRAAdapterStatus,
    RoleStatus,
    WorkerPoolStatus,
    to_wire,
)

_ADAPTER_TROUBLES = frozenset({"AdaptersDisabled", "InvalidSpec", "LoadFailed", "NameTaken"})
"""Reasons that do not pass by themselves. Others come with every worker that starts."""


def service_report(
    course: Course, observed: Observed, problem: str | None, now: float
) -> list[Action]:
    """Return the service's status, if it is another than before, and events for what changed."""
    found = verdicts(course, observed, problem, now)
    counts = {role: _role_status(course, role) for role in ROLES}
    status = LLMServiceStatus(
        observed_generation=observed.service["metadata"].get("generation", 0),
        conditions=updated(observed.service, found, now),
        endpoint=router.endpoint(course.service),
        revision=_serving_revision(course),
        prefill=counts[Role.PREFILL],
        decode=counts[Role.DECODE],
    )
    actions = status_change(observed.service, LLM_SERVICE.kind, status)
    return [*actions, *events(observed.service, found), *_rollout_events(course)]


def bare_report(observed: Observed, found: list[Verdict], now: float) -> list[Action]:
    """Return the status of a service that is not planned: nothing is made of it, or it goes."""
    before = observed.service.get("status") or {}
    status = LLMServiceStatus(
        observed_generation=observed.service["metadata"].get("generation", 0),
        conditions=updated(observed.service, found, now),
        endpoint=before.get("endpoint"),
        revision=before.get("revision"),
        prefill=seen_status(observed, Role.PREFILL),
        decode=seen_status(observed, Role.DECODE),
    )
    actions = status_change(observed.service, LLM_SERVICE.kind, status)
    return [*actions, *events(observed.service, found)]


def failure_report(observed: Observed, error: Exception, now: float) -> list[Action]:
    """Return the status of a service whose plan ended with *error*, which is a fault of ours.

    The error's words stay in the log: they may hold what is secret.
    """
    message = (
        f"the operator fails at this service ({type(error).__name__}) and leaves it as it is. Take "
        "back the last change of it, and report the traceback in the operator's log as a fault of "
        "Twofold"
    )
    return bare_report(observed, stopped("PlanFailed", message), now)


def pool_reports(course: Course, observed: Observed, now: float) -> list[Action]:
    """Return the statuses of the WorkerPools that are other than before."""
    actions: list[Action] = []
    for role in ROLES:
        name = names.pool_name(course.service.metadata.name, role)
        pool = observed.children.get((WORKER_POOL.kind, name))
        if pool is None:
            continue
        ready, desired = last_ready_count(course, role), course.desired[role]
        selected = names.labels(course.service.metadata.name, role)
        selector = (names.INSTANCE_LABEL, names.COMPONENT_LABEL)
        status = WorkerPoolStatus(
            observed_generation=pool["metadata"].get("generation", 0),
            replicas=sum(leg.stand.present(role) for leg in course.legs),
            ready_replicas=ready,
            summary=f"{ready}/{desired}",
            selector=",".join(f"{label}={selected[label]}" for label in selector),
            conditions=updated(
                pool, [replace(pool_verdict(course, observed, role, now), type="Ready")], now
            ),
        )
        actions += status_change(pool, WORKER_POOL.kind, status)
    return actions


def adapter_reports(
    course: Course, observed: Observed, adapters: Adapters, now: float
) -> list[Action]:
    """Return the statuses of the LoRAAdapters that are other than before, and events of them."""
    workers = [worker for leg in course.legs for worker in leg.stand.workers]
    hidden = unseen(course)
    actions: list[Action] = []
    for manifest in observed.adapters:
        status = adapter_status(manifest, adapters, workers, hidden, now)
        if status is not None:
            actions += status_change(manifest, LORA_ADAPTER.kind, status)
            actions += adapter_events(manifest, status)
    return actions


def lost_reports(adapters: Iterable[Manifest], why: Verdict, now: float) -> list[Action]:
    """Return the statuses of LoRAAdapters of whose service nothing is there, if they change."""
    return [
        action
        for manifest in adapters
        if not manifest["metadata"].get("deletionTimestamp")
        for action in status_change(manifest, LORA_ADAPTER.kind, lost_status(manifest, why, now))
    ]


def status_change(manifest: Manifest, kind: str, status: msgspec.Struct) -> list[Action]:
    """Return what sets *status* of *manifest*; nothing, if it has it."""
    wire = to_wire(status)
    if wire == _without_defaults(manifest.get("status"), type(status)):
        return []
    return [SetStatus(Reference(API_VERSION, kind, manifest["metadata"]["name"]), wire)]


def events(service: Manifest, found: list[Verdict]) -> list[Action]:
    """Return an event for each condition that a person would want to know the change of."""
    before = {c["type"]: c for c in (service.get("status") or {}).get("conditions") or ()}
    actions: list[Action] = []
    for verdict in found:
        last = before.get(verdict.type, {})
        was = last.get("status") == "True"
        is_news = was is not verdict.holds or last.get("reason") != verdict.reason
        if verdict.type == "Ready" and is_news and (verdict.holds or was):
            actions.append(_event("Normal" if verdict.holds else "Warning", verdict))
        elif verdict.type == "Degraded" and is_news and verdict.holds:
            actions.append(_event("Warning", verdict))
        elif verdict.type == "Degraded" and was and verdict.holds is False:
            over = f"{last.get('reason')} is over: {verdict.message}"
            actions.append(RecordEvent("Normal", verdict.reason, over))
    return actions


def adapter_events(manifest: Manifest, status: LoRAAdapterStatus) -> list[Action]:
    """Return an event if an adapter is loaded everywhere now, or cannot be for another reason."""
    (ready,) = status.conditions
    is_loaded = ready.status == "True"
    before = (manifest.get("status") or {}).get("conditions") or ()
    is_news = ready.reason not in (c["reason"] for c in before)
    if not is_news or not (is_loaded or ready.reason in _ADAPTER_TROUBLES):
        return []
    about = Reference(API_VERSION, LORA_ADAPTER.kind, manifest["metadata"]["name"])
    kind: Literal["Normal", "Warning"] = "Normal" if is_loaded else "Warning"
    return [RecordEvent(kind, ready.reason, ready.message, about)]


def _event(kind: Literal["Normal", "Warning"], verdict: Verdict) -> RecordEvent:
    return RecordEvent(kind, verdict.reason, verdict.message)


def _rollout_events(course: Course) -> list[Action]:
    """Return an event for each beginning, and each end of a revision before."""
    target = course.target.revision
    actions: list[Action] = []
    if course.is_new:
        what = f"revision {target} starts"
        actions.append(RecordEvent("Normal", "RevisionStarted", what))
    for revision in course.ended:
        what = f"revision {revision} has gone; {target} has taken over"
        actions.append(RecordEvent("Normal", "RevisionEnded", what))
    return actions


def _role_status(course: Course, role: Role) -> RoleStatus:
    return RoleStatus.of(
        desired=course.desired[role],
        ready=last_ready_count(course, role),
        updated=last_updated_count(course, role),
    )


def _serving_revision(course: Course) -> str | None:
    """Return the revision that takes new requests: of several, the one that takes over."""
    for leg in course.legs:
        if leg.remembered.has_served and not leg.aim.standby and not leg.aim.is_leaving:
            return leg.revision
    return None


def _without_defaults(status: Any, kind: type[msgspec.Struct]) -> Any:
    try:
        return to_wire(msgspec.convert(status, kind))
    except msgspec.ValidationError:
        return None
