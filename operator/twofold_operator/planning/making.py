"""The objects that a service consists of now, and those that it does not want any more."""

from collections.abc import Iterator
from typing import Any

from twofold_cluster.identity import Role
from twofold_operator.planning import names
from twofold_operator.planning.actions import Action, ApplyObject, DeleteObject
from twofold_operator.planning.children import pool_manager, ray_cluster, router
from twofold_operator.planning.children.disruption_budgets import pool_budget
from twofold_operator.planning.children.monitors import monitors
from twofold_operator.planning.children.network_policies import managers_policy, workers_policy
from twofold_operator.planning.children.redis_secret import redis_secret
from twofold_operator.planning.children.remembering import memory_map
from twofold_operator.planning.children.worker_pools import worker_pool
from twofold_operator.planning.comparing import is_applied, signed
from twofold_operator.planning.course import Course, Leg, doomed_seen, replicas_seen
from twofold_operator.planning.disruptions import min_available
from twofold_operator.planning.observed import Manifest, Observed, Reference
from twofold_operator.planning.ray_pods import is_ending, pods_of
from twofold_operator.planning.recalling import homes_of, recorded, revision_on
from twofold_operator.planning.rollout import ROLES
from twofold_operator.planning.settings import PlanSettings
from twofold_operator.resources import WORKER_POOL

PRUNED = frozenset(
    {
        *("ConfigMap", "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy"),
        *("PodDisruptionBudget", "PodMonitor", "ScrapeConfig", "Secret", "Service"),
        "ServiceMonitor",
    }
)
"""Kinds of which what is ours and not wanted is deleted. Ray clusters go when they are drained."""


def applied(wanted: list[dict[str, Any]], observed: Observed) -> list[Action]:
    """Return what applies each of *wanted* that is not as it should be."""
    actions: list[Action] = []
    for manifest in wanted:
        signed_manifest = signed(manifest)
        seen = observed.children.get((manifest["kind"], manifest["metadata"]["name"]))
        if not is_applied(signed_manifest, seen):
            actions.append(ApplyObject(signed_manifest))
    return actions


def wanted_objects(
    course: Course, observed: Observed, settings: PlanSettings
) -> list[dict[str, Any]]:
    """Return all objects, each before what needs it."""
    service = course.service
    wanted = [
        redis_secret(service, settings.redis),
        memory_map(service, course.memory),
    ]
    wanted += [worker_pool(service, role, _worker_pool(course, observed, role)) for role in ROLES]
    wanted += _pool_budgets(course, observed)
    wanted += [part for leg in course.legs for part in _of_revision(leg, observed, settings)]
    routers = observed.children.get(("Deployment", names.router_name(service.metadata.name)))
    wanted.append(router.router_deployment(service, settings, routers))
    wanted += [router.router_service(service), router.disruption_budget(service)]
    if service.spec.gateway.is_scaled:
        wanted.append(router.autoscaler(service))
    if settings.network_policies:
        wanted.append(workers_policy(service, settings))
        if any(leg.service.spec.ray.address is not None for leg in course.legs):
            wanted.append(managers_policy(service, settings))
    return [*wanted, *monitors(service, observed.apis)]


def pruned(wanted: list[dict[str, Any]], course: Course, observed: Observed) -> list[Action]:
    """Return what deletes the children that are not wanted any more."""
    keep = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in wanted}
    keep |= {
        (leg.home["kind"], leg.home["metadata"]["name"])
        for leg in course.legs
        if leg.home is not None
    }
    name = course.service.metadata.name
    keep |= {("Secret", names.redis_name(name, leg.remembered.redis)) for leg in course.legs}
    kinds = PRUNED
    if course.is_complete:
        kinds |= {ray_cluster.KIND}
    else:  # a revision that nothing is known of may be the one that serves
        known = {leg.revision for leg in course.legs} | {""}
        unknown = {revision_on(home) for home in homes_of(observed)} - known
        keep |= {key for key, child in observed.children.items() if revision_on(child) in unknown}
    return [
        deleted(child)
        for key, child in sorted(observed.children.items())
        if child["kind"] in kinds
        and key not in keep
        and _is_ours(child, course)
        and not child["metadata"].get("deletionTimestamp")
    ]


def deleted(child: Manifest) -> DeleteObject:
    metadata = child["metadata"]
    reference = Reference(child["apiVersion"], child["kind"], metadata["name"])
    return DeleteObject(reference, metadata["uid"])


def _of_revision(leg: Leg, observed: Observed, settings: PlanSettings) -> Iterator[dict[str, Any]]:
    """Yield what a revision runs on. What leaves is not made again, nor what is being deleted, nor
    what knows a Redis that we do not know."""
    if leg.home is None and leg.aim.is_leaving:
        return
    image = leg.remembered.image
    yield pool_manager.pools_service(leg.service, leg.revision)
    redis = leg.redis
    if redis is None or (leg.home is not None and leg.home["metadata"].get("deletionTimestamp")):
        return
    if leg.service.spec.ray.address is not None:
        template = leg.remembered.manager or pool_manager.manager_template(
            leg.service, leg.revision, image, redis, settings
        )
        home = pool_manager.external_manager(leg.service, leg.revision, template)
        yield recorded(home, leg.remembered)
    elif ray_cluster.KIND in observed.apis:
        replicas = {role: _pods(leg, observed, role) for role in ROLES}
        doomed = {role: _doomed(leg, observed, role, replicas[role]) for role in ROLES}
        home = ray_cluster.ray_cluster(
            leg.service, leg.revision, image, redis, settings, replicas, doomed
        )
        yield recorded(home, leg.remembered)


def _pool_budgets(course: Course, observed: Observed) -> Iterator[dict[str, Any]]:
    service = course.service
    if service.spec.ray.address is not None or ray_cluster.KIND not in observed.apis:
        return
    for role in ROLES:
        replicas = {leg.revision: _pods(leg, observed, role) for leg in course.legs}
        least = min_available(course, observed, role, replicas)
        if least is not None:
            yield pool_budget(service, role, least)


def _pods(leg: Leg, observed: Observed, role: Role) -> int:
    """Return how many pods a role has: also those whose workers have not finished, but not those
    that end, with or without a worker.

    While the pod of any worker is not known none goes: it might be that one.
    """
    ending, staying = _pod_names(leg, observed, role)
    workers = [worker for worker in leg.stand.workers if worker.role is role]
    there = sum(worker.node not in ending for worker in workers)
    if not leg.stand.is_known:
        there = replicas_seen(leg.home).get(role, 0)
    elif any(not worker.node for worker in workers):
        there = max(there, len(staying))
    return max(leg.aim.of(role), there)


def _doomed(leg: Leg, observed: Observed, role: Role, replicas: int) -> list[str]:
    """Return the names of pods that KubeRay shall not count: those that end, and of those that
    nobody works in any more as many as there are too many.

    While it is not known who works where, what was to be deleted stays so.
    """
    ending, staying = _pod_names(leg, observed, role)
    if leg.stand.is_known:
        idle = staying - {worker.node for worker in leg.stand.workers}
        surplus = max(0, len(staying) - replicas)
    else:
        idle = staying & doomed_seen(leg.home).get(role, frozenset())
        surplus = len(idle)
    return sorted(ending | set(sorted(idle)[:surplus]))


def _pod_names(leg: Leg, observed: Observed, role: Role) -> tuple[set[str], set[str]]:
    """Return the names of a role's pods that end, and of those that do not."""
    pods = pods_of(leg, observed, role)
    ending = {pod["metadata"]["name"] for pod in pods if is_ending(pod)}
    return ending, {pod["metadata"]["name"] for pod in pods} - ending


def _worker_pool(course: Course, observed: Observed, role: Role) -> Manifest | None:
    name = names.pool_name(course.service.metadata.name, role)
    return observed.children.get((WORKER_POOL.kind, name))


def _is_ours(child: Manifest, course: Course) -> bool:
    owners = child["metadata"].get("ownerReferences") or ()
    return any(owner["uid"] == course.service.metadata.uid for owner in owners)
