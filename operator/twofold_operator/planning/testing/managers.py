"""A pool manager in memory: it starts, readies, drains and ends workers as it is told."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from twofold_cluster.identity import Role
from twofold_operator.planning.observed import (
    Phase,
    SeenAdapter,
    SeenManager,
    SeenWorker,
    Told,
    WantedPool,
)

_NEXT = {Phase.PENDING: Phase.STARTING, Phase.STARTING: Phase.READY}


@dataclass(slots=True)
class ManagerDouble:
    """A pool manager that does what it is told one step at a time, as the real one does."""

    prefix: str
    told: Told | None = None
    workers: list[SeenWorker] = field(default_factory=list)
    is_broken: bool = False
    """No engine gets ready."""
    is_unheard: bool = False
    """Its Redis is gone, which takes no worker's standby any more."""
    is_forgotten: bool = False
    """The operator has restarted, and does not know what it told this manager."""
    _count: int = 0

    def tell(self, told: Told) -> None:
        self.told, self.is_forgotten = told, False

    def seen(self) -> SeenManager:
        told = None if self.is_forgotten else self.told
        return SeenManager(workers=tuple(self.workers), told=told)

    def live(self, free_node: Callable[[Role], str | None]) -> None:
        """Go one step further. Workers start on a *free_node* of their role."""
        pools = () if self.told is None else self.told.pools
        self.workers = [w for w in self.workers if w.phase is not Phase.DRAINING]
        self._advance(free_node)
        for pool in pools:
            members = [w for w in self.workers if self._is_in(w, pool)]
            for _ in range(pool.replicas - len(members)):
                worker_id = f"{self.prefix}-{pool.role}-{self._count}"
                self._count += 1
                fresh = SeenWorker(worker_id, pool.role, pool.revision, Phase.PENDING)
                self.workers.append(replace(fresh, standby=pool.standby))
            for worker in members[pool.replicas :]:
                self._end(worker)
            for worker in members[: pool.replicas]:
                if worker.standby is not pool.standby and not self.is_unheard:
                    self._replace(worker, standby=pool.standby)
        for worker in list(self.workers):
            if not any(self._is_in(worker, pool) for pool in pools):
                self._end(worker)
        self._load_adapters()

    def _advance(self, free_node: Callable[[Role], str | None]) -> None:
        for worker in list(self.workers):
            if not worker.node:
                node = free_node(worker.role)
                if node is None:
                    continue
                worker = self._replace(worker, node=node)
            following = _NEXT.get(worker.phase)
            if following is not None and not (self.is_broken and following is Phase.READY):
                self._replace(worker, phase=following)

    def _end(self, worker: SeenWorker) -> None:
        if worker.phase is Phase.READY:
            others = [w for w in self.workers if w is not worker]
            prefills = any(w.role is Role.PREFILL and w.phase is not Phase.DEAD for w in others)
            readers = any(w.role is Role.DECODE and w.phase is Phase.READY for w in others)
            if worker.role is Role.DECODE and prefills and not readers:
                self._replace(worker, standby=True)
            else:
                self._replace(worker, phase=Phase.DRAINING)
        elif worker.phase is not Phase.DRAINING:
            self.workers.remove(worker)

    def _load_adapters(self) -> None:
        adapters = () if self.told is None else self.told.adapters
        loaded = tuple(
            SeenAdapter(a.name, a.source, "missing" not in a.source, "") for a in adapters
        )
        for worker in list(self.workers):
            if worker.phase is Phase.READY and worker.adapters != loaded:
                self._replace(worker, adapters=loaded)

    def _replace(self, worker: SeenWorker, **changes: Any) -> SeenWorker:
        changed = replace(worker, **changes)
        self.workers[self.workers.index(worker)] = changed
        return changed

    @staticmethod
    def _is_in(worker: SeenWorker, pool: WantedPool) -> bool:
        told = (pool.role, pool.revision)
        return (worker.role, worker.revision) == told and worker.phase is not Phase.DRAINING
