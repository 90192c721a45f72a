"""What to do so that what is there becomes what is wanted. Pure; empty when settled."""

import enum
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from twofold_cluster.identity import Role, WorkerId
from twofold_engine.pools.wanting import Build, Pool

MAX_RESTART_DELAY_SECONDS = 60.0


class Phase(enum.StrEnum):
    PENDING = "pending"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Observed:
    """One worker as it is. ``standby`` is what routers were told of it. ``restart_at`` is when a
    dead one may start again, in the clock of the caller."""

    worker_id: WorkerId
    role: Role
    revision: str
    phase: Phase
    build: Build
    standby: bool = False
    restart_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Start:
    """Start a worker that is new, or dead."""

    worker_id: WorkerId
    pool: Pool


@dataclass(frozen=True, slots=True)
class ChangeRole:
    worker_id: WorkerId
    pool: Pool


@dataclass(frozen=True, slots=True)
class StandBy:
    """Take no new requests, or take them again."""

    worker_id: WorkerId
    standby: bool


@dataclass(frozen=True, slots=True)
class Drain:
    """Finish what the worker has, then end it."""

    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class Remove:
    """End a worker that serves nothing."""

    worker_id: WorkerId


Action = Start | ChangeRole | StandBy | Drain | Remove


def plan(
    wanted: Sequence[Pool], observed: Sequence[Observed], prefix: str, now: float
) -> list[Action]:
    """Return the actions, each worker in at most one of them. New workers are named *prefix*,
    role and a number.

    A worker too many in one pool is not ended but changes its role, when another pool of the same
    revision and build has one too few and the engine is up: a reload takes minutes.

    When a revision leaves, its decode workers outlive its prefill workers, on standby: nobody
    else can read the blocks of prompts that are being computed.
    """
    members = _members_by_pool(wanted, observed)
    surplus = {pool: _surplus(members[pool], pool.replicas) for pool in wanted}
    unwanted = [o for o in observed if o.phase is not Phase.DRAINING and not _is_in(o, wanted)]
    actions: list[Action] = []
    for pool in wanted:
        missing = pool.replicas - len(members[pool])
        movable = _movable(surplus, unwanted, pool)
        moved = list(itertools.islice(movable, max(missing, 0)))
        actions += [ChangeRole(worker.worker_id, pool) for worker in moved]
        for left in (*surplus.values(), unwanted):
            left[:] = [worker for worker in left if worker not in moved]
        names = _free_names(prefix, pool.role, observed, actions)
        actions += [Start(next(names), pool) for _ in range(missing - len(moved))]
        actions += _restarts(pool, members[pool], surplus[pool], now)
    leaving = [*itertools.chain(*surplus.values()), *unwanted]
    busy = {action.worker_id for action in actions} | {worker.worker_id for worker in leaving}
    for pool in wanted:
        actions += [
            StandBy(worker.worker_id, standby=pool.standby)
            for worker in members[pool]
            if worker.phase is Phase.READY
            and worker.standby is not pool.standby
            and worker.worker_id not in busy
        ]
    return actions + _endings(leaving, observed)


def restart_delay_seconds(failure_count: int) -> float:
    """Return how long to wait after the nth failure in a row: 1, 2, 4 … 60 s."""
    return min(2.0 ** min(failure_count - 1, 10), MAX_RESTART_DELAY_SECONDS)


def _members_by_pool(
    wanted: Sequence[Pool], observed: Sequence[Observed]
) -> dict[Pool, list[Observed]]:
    return {
        pool: [o for o in observed if o.phase is not Phase.DRAINING and _is_in(o, [pool])]
        for pool in wanted
    }


def _is_in(worker: Observed, pools: Iterable[Pool]) -> bool:
    made = (worker.role, worker.revision, worker.build)
    return any((pool.role, pool.revision, pool.build) == made for pool in pools)


def _surplus(members: list[Observed], replicas: int) -> list[Observed]:
    """Choose who leaves: those that serve nothing first, then those that came from another role,
    then the youngest names."""
    order = [Phase.READY, Phase.STARTING, Phase.PENDING, Phase.DEAD]

    def worth(worker: Observed) -> tuple[int, bool, int]:
        name, _, index = worker.worker_id.rpartition("-")
        return order.index(worker.phase), not name.endswith(f"-{worker.role}"), int(index)

    return sorted(members, key=worth)[replicas:]


def _movable(
    surplus: dict[Pool, list[Observed]], unwanted: list[Observed], target: Pool
) -> Iterable[Observed]:
    """Yield ready workers of the target's revision and build that leave their own pool."""
    for worker in itertools.chain(*surplus.values(), unwanted):
        is_same = worker.revision == target.revision and worker.build == target.build
        if worker.phase is Phase.READY and is_same:
            yield worker


def _restarts(
    pool: Pool, members: list[Observed], leaving: list[Observed], now: float
) -> list[Action]:
    return [
        Start(worker.worker_id, pool)
        for worker in members
        if worker.phase is Phase.DEAD and worker not in leaving and worker.restart_at <= now
    ]


def _endings(leaving: Sequence[Observed], observed: Sequence[Observed]) -> list[Action]:
    unread = _unread_revisions(leaving, observed)
    actions: list[Action] = []
    for worker in leaving:
        if worker.phase is not Phase.READY:
            actions.append(Remove(worker.worker_id))
        elif worker.role is not Role.DECODE or worker.revision not in unread:
            actions.append(Drain(worker.worker_id))
        elif not worker.standby:
            actions.append(StandBy(worker.worker_id, standby=True))
    return actions


def _unread_revisions(leaving: Sequence[Observed], observed: Sequence[Observed]) -> set[str]:
    """Return the revisions that leave, and whose prefill workers may still hold blocks.

    One that keeps a prefill worker is not among them: then it is wanted without who reads.
    """
    leaving_ids = {worker.worker_id for worker in leaving}
    up = [worker for worker in observed if worker.phase in (Phase.READY, Phase.DRAINING)]
    staying = {
        worker.revision
        for worker in up
        if worker.phase is Phase.READY and worker.worker_id not in leaving_ids
    }
    return {worker.revision for worker in up if worker.role.prefills} - staying


def _free_names(
    prefix: str, role: Role, observed: Sequence[Observed], actions: Sequence[Action]
) -> Iterator[WorkerId]:
    taken = {worker.worker_id for worker in observed} | {action.worker_id for action in actions}
    names = (WorkerId(f"{prefix}-{role}-{index}") for index in itertools.count())
    return (name for name in names if name not in taken)
