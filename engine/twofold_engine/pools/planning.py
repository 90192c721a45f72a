"""What to do so that what is there becomes what is wanted. Pure; empty when settled."""

import enum
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from twofold_cluster.identity import Role, WorkerId
from twofold_engine.pools.wanting import Pool

MAX_RESTART_DELAY_SECONDS = 60.0


class Phase(enum.StrEnum):
    PENDING = "pending"
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Observed:
    """One worker as it is. ``restart_at`` is when a dead one may start again, in the clock of
    the caller."""

    worker_id: WorkerId
    role: Role
    revision: str
    phase: Phase
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
class Drain:
    """Finish what the worker has, then end it."""

    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class Remove:
    """End a worker that serves nothing."""

    worker_id: WorkerId


Action = Start | ChangeRole | Drain | Remove


def plan(
    wanted: Sequence[Pool], observed: Sequence[Observed], service: str, now: float
) -> list[Action]:
    """Return the actions, each worker in at most one of them.

    A worker too many in one pool is not ended but changes its role, when another pool of the same
    revision has one too few and the engine is up: a reload takes minutes.
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
        for leaving in (*surplus.values(), unwanted):
            leaving[:] = [worker for worker in leaving if worker not in moved]
        names = _free_names(service, pool.role, observed, actions)
        actions += [Start(next(names), pool) for _ in range(missing - len(moved))]
        actions += _restarts(pool, members[pool], surplus[pool], now)
    for leaving in (*surplus.values(), unwanted):
        actions += [_end(worker) for worker in leaving]
    return actions


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
    return any((pool.role, pool.revision) == (worker.role, worker.revision) for pool in pools)


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
    """Yield ready workers of the target's revision that leave their own pool."""
    for worker in itertools.chain(*surplus.values(), unwanted):
        if worker.phase is Phase.READY and worker.revision == target.revision:
            yield worker


def _restarts(
    pool: Pool, members: list[Observed], leaving: list[Observed], now: float
) -> list[Action]:
    return [
        Start(worker.worker_id, pool)
        for worker in members
        if worker.phase is Phase.DEAD and worker not in leaving and worker.restart_at <= now
    ]


def _end(worker: Observed) -> Action:
    if worker.phase is Phase.READY:
        return Drain(worker.worker_id)
    return Remove(worker.worker_id)


def _free_names(
    service: str, role: Role, observed: Sequence[Observed], actions: Sequence[Action]
) -> Iterator[WorkerId]:
    taken = {worker.worker_id for worker in observed} | {action.worker_id for action in actions}
    names = (WorkerId(f"{service}-{role}-{index}") for index in itertools.count())
    return (name for name in names if name not in taken)
