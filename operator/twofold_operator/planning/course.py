"""Where the revisions of one service are, and where they shall go."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec

from twofold_cluster.identity import Role
from twofold_operator.planning import names
from twofold_operator.planning.addresses import address_of
from twofold_operator.planning.children import ray_cluster
from twofold_operator.planning.children.pool_manager import HEAD_COMPONENT
from twofold_operator.planning.children.redis_secret import url_in
from twofold_operator.planning.children.worker_pools import desired_of
from twofold_operator.planning.following import followed_secrets
from twofold_operator.planning.memory import Memory, Remembered
from twofold_operator.planning.observed import Manifest, Observed, SeenManager
from twofold_operator.planning.redis import Redis
from twofold_operator.planning.revisions import begun, revision_of, worker_image
from twofold_operator.planning.rollout import (
    ROLES,
    Aim,
    Counts,
    Stand,
    aims,
    is_complete,
    needed,
)
from twofold_operator.planning.settings import PlanSettings
from twofold_operator.planning.silence import given_up_at
from twofold_operator.resources import (
    WORKER_POOL,
    InvalidSpecError,
    LLMService,
    to_wire,
)

NEVER_MADE_SECONDS = 60
"""After this long a revision of which nothing is seen is taken for not made."""


@dataclass(frozen=True, slots=True)
class Leg:
    """One revision: as it was specified, as it is, as it shall be."""

    service: LLMService
    remembered: Remembered
    stand: Stand
    aim: Aim
    manager: SeenManager | None
    home: Manifest | None
    """Its RayCluster, or the Deployment of its manager on an existing Ray."""
    redis: Redis | None
    """That its workers know; None: its Secret has been deleted, and there is another one by now."""
    unseen_until: float | None
    """How long its workers may serve though its manager is silent, in seconds since 1970; None: it
    is not silent, or they do not."""

    @property
    def revision(self) -> str:
        return self.stand.revision

    @property
    def address(self) -> str:
        metadata = self.service.metadata
        return address_of(metadata.namespace, names.pools_name(metadata.name, self.revision))


@dataclass(frozen=True, slots=True)
class Course:
    service: LLMService
    target: Leg
    olds: tuple[Leg, ...]
    desired: Counts
    memory: Memory
    """What is to be remembered from now on."""
    is_new: bool
    """The target was not remembered before."""
    ended: tuple[str, ...]
    """Revisions that were remembered and have gone."""
    held: frozenset[str]
    """Revisions in another Redis than the target, which routers follow still."""

    @property
    def legs(self) -> tuple[Leg, ...]:
        return (self.target, *self.olds)

    @property
    def is_complete(self) -> bool:
        return is_complete(self.target.stand, self.desired)

    def waits_for(self, unasked: frozenset[str]) -> bool:
        """Tell whether one that served has had no time yet to say how it is."""
        return any(leg.remembered.has_served and leg.address in unasked for leg in self.legs)

    @property
    def overdue_at(self) -> int | None:
        """Return when the target's missing workers are overdue; None if none is missing."""
        since = self.target.remembered.lacks_since
        if since is None:
            return None
        return since + self.service.spec.rollout.ready_deadline_seconds


def course_of(
    service: LLMService,
    observed: Observed,
    adapters: frozenset[str],
    memory: Memory,
    settings: PlanSettings,
    now: float,
) -> Course:
    """Decide how many workers each revision shall have, and what to remember of it.

    A new revision takes requests when it has the *adapters* as well, which clients ask for by
    these names.
    """
    image = worker_image(service.spec, settings)
    target = revision_of(service, image, settings)
    desired = {role: desired_of(service, role, _pool(observed, service, role)) for role in ROLES}
    surge = {role: service.spec.rollout.surge(desired[role]) for role in ROLES}
    wire = to_wire(service.spec)
    before = {r: m for r, m in memory.revisions.items() if _is_readable(m, service)}
    is_new = target not in before
    known = before.get(target) or begun(service, target, image, settings)
    before[target] = msgspec.structs.replace(known, spec=wire)
    stands = {
        revision: _stand(service, observed, revision, remembered, desired)
        for revision, remembered in before.items()
    }
    if service.spec.model.lora is not None:
        stands[target] = replace(stands[target], adapters=adapters)
    olds = [stands[revision] for revision in sorted(before) if revision != target]
    apart = _apart(before, settings)
    held = _held(service, observed, apart, now)
    found = aims(stands[target], olds, desired, surge, held, apart.keys() - held)
    legs = {
        revision: _leg(
            service, observed, remembered, stands[revision], found[revision], settings, now
        )
        for revision, remembered in before.items()
    }
    complete = is_complete(stands[target], desired)
    legs = {
        revision: _remembering(leg, desired, int(now), is_complete=complete)
        for revision, leg in legs.items()
    }
    living = {r: leg for r, leg in legs.items() if r == target or not _has_gone(leg, settings, now)}
    return Course(
        service=service,
        target=living.pop(target),
        olds=tuple(living[revision] for revision in sorted(living)),
        desired=desired,
        memory=Memory(
            revisions={revision: legs[revision].remembered for revision in (target, *living)},
            good_spec=wire,
        ),
        is_new=is_new,
        ended=tuple(sorted(legs.keys() - living.keys() - {target})),
        held=frozenset(held & living.keys()),
    )


def home_of(observed: Observed, service: LLMService, revision: str) -> Manifest | None:
    """Return what runs a revision's pool manager, if it is there."""
    name = service.metadata.name
    cluster = observed.children.get((ray_cluster.KIND, names.cluster_name(name, revision)))
    return cluster or observed.children.get(("Deployment", names.pools_name(name, revision)))


def replicas_seen(home: Manifest | None) -> dict[Role, int]:
    """Return the pods of each role that a RayCluster has been told to have."""
    return {role: group.get("replicas") or 0 for role, group in _groups(home).items()}


def doomed_seen(home: Manifest | None) -> dict[Role, frozenset[str]]:
    """Return the names of the pods of each role that KubeRay has been told to delete."""
    return {
        role: frozenset((group.get("scaleStrategy") or {}).get("workersToDelete") or ())
        for role, group in _groups(home).items()
    }


def _groups(home: Manifest | None) -> dict[Role, Manifest]:
    groups = ((home or {}).get("spec") or {}).get("workerGroupSpecs") or ()
    return {
        Role(group["groupName"]): group
        for group in groups
        if group["groupName"] in (Role.PREFILL, Role.DECODE)
    }


def _stand(
    service: LLMService,
    observed: Observed,
    revision: str,
    remembered: Remembered,
    desired: Counts,
) -> Stand:
    address = address_of(
        service.metadata.namespace, names.pools_name(service.metadata.name, revision)
    )
    manager = observed.managers.get(address)
    home = home_of(observed, service, revision)
    guess: Mapping[Role, int] = replicas_seen(home)
    if home is not None and not guess and remembered.has_served:
        guess = desired
    # Without its home a manager does not answer any more, whatever it said last.
    workers = () if manager is None or home is None else manager.workers
    stand = Stand(
        revision=revision,
        workers=tuple(worker for worker in workers if worker.revision == revision),
        is_known=manager is not None or home is None,
        was_active=remembered.was_active,
        has_served=remembered.has_served,
        guess=guess,
    )
    roles = needed(desired)
    serves = stand.was_active and bool(roles) and all(stand.active(role) for role in roles)
    return replace(stand, has_served=stand.has_served or serves)


def _apart(before: Mapping[str, Remembered], settings: PlanSettings) -> Mapping[str, Remembered]:
    """Return the revisions in another Redis than what starts now."""
    return {r: kept for r, kept in before.items() if kept.redis != settings.redis.id}


def _held(
    service: LLMService, observed: Observed, apart: Mapping[str, Remembered], now: float
) -> frozenset[str]:
    """Return the revisions of those *apart* whose workers are all that some router can see."""
    followed = followed_secrets(observed, now)
    return frozenset(
        revision
        for revision, remembered in apart.items()
        if names.redis_name(service.metadata.name, remembered.redis) in followed
    )


def _redis(
    service: LLMService, observed: Observed, redis_id: str, settings: PlanSettings
) -> Redis | None:
    if redis_id == settings.redis.id:
        return settings.redis
    name = names.redis_name(service.metadata.name, redis_id)
    url = url_in(observed.children.get(("Secret", name)))
    return None if url is None else Redis(redis_id, url)


def _leg(
    service: LLMService,
    observed: Observed,
    remembered: Remembered,
    stand: Stand,
    aim: Aim,
    settings: PlanSettings,
    now: float,
) -> Leg:
    address = address_of(
        service.metadata.namespace, names.pools_name(service.metadata.name, stand.revision)
    )
    specified = remembered.service(service)
    home = home_of(observed, service, stand.revision)
    unseen_until = None
    if not stand.is_known and stand.has_served and not (aim.standby or aim.is_leaving):
        labels = names.labels(service.metadata.name, HEAD_COMPONENT, stand.revision)
        unseen_until = given_up_at(specified, home, observed.pods(labels))
    return Leg(
        service=specified,
        remembered=remembered,
        stand=stand,
        aim=aim,
        manager=observed.managers.get(address),
        home=home,
        redis=_redis(service, observed, remembered.redis, settings),
        unseen_until=unseen_until if unseen_until is not None and now < unseen_until else None,
    )


def _remembering(leg: Leg, desired: Counts, now: int, *, is_complete: bool) -> Leg:
    """Return *leg* with what is to be remembered of it."""
    old, stand, aim = leg.remembered, leg.stand, leg.aim
    ready = sum(stand.ready(role) for role in ROLES)
    lacks_since, most_ready = old.lacks_since, max(old.most_ready, ready)
    active = {role: count for role in ROLES if (count := stand.active(role))}
    if not stand.is_known:
        most_ready, active = old.most_ready, old.active
    elif is_complete or aim.is_leaving:
        lacks_since, most_ready = None, 0
    elif lacks_since is None or ready > old.most_ready:
        lacks_since = now
    leaves_since = old.leaves_since if old.leaves_since is not None else now
    remembered = msgspec.structs.replace(
        old,
        lacks_since=lacks_since,
        most_ready=most_ready,
        active=active,
        is_made=old.is_made or leg.home is not None,
        was_active=old.was_active or not (aim.standby or aim.is_leaving),
        has_served=stand.has_served,
        leaves_since=leaves_since if aim.is_leaving else None,
    )
    return replace(leg, remembered=remembered)


def _has_gone(leg: Leg, settings: PlanSettings, now: float) -> bool:
    since = leg.remembered.leaves_since
    if leg.home is not None or since is None:
        return False
    return leg.remembered.is_made or now - since > NEVER_MADE_SECONDS


def _pool(observed: Observed, service: LLMService, role: Role) -> Manifest | None:
    return observed.children.get((WORKER_POOL.kind, names.pool_name(service.metadata.name, role)))


def _is_readable(remembered: Remembered, service: LLMService) -> bool:
    try:
        remembered.service(service)
    except InvalidSpecError:
        return False
    return True
