"""The workers of a run: who there is, who comes and goes, and the way to them."""

from collections.abc import Hashable, Sequence

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.worker import Engine, Worker, WorkerState
from twofold_sim.virtual.engines import (
    SINK,
    engine_blocks,
    make_engine,
    max_model_tokens,
    step_seconds,
)
from twofold_sim.virtual.events import EventQueue
from twofold_sim.virtual.exchange import MODEL
from twofold_sim.virtual.incidents import Incident, role_of
from twofold_sim.virtual.reporting import Reports
from twofold_sim.virtual.routing import Router
from twofold_sim.virtual.setup import PrefillPool, Setup, worker_ids
from twofold_sim.virtual.worker import Leg, VirtualWorker
from twofold_sim.workloads import Prompt

AGAIN_SECONDS = 1.0
"""After which a worker tries to join again whose last life has not ended yet."""


class Cluster:
    """Implements Fleet.

    Invariant: ``workers`` has the one living incarnation of each worker, the leaving ones too; a
    dead one and one that has left are not in it.
    """

    def __init__(self, setup: Setup, routers: Sequence[Router], events: EventQueue) -> None:
        self._setup = setup
        self._routers = routers
        self._events = events
        self._reports = Reports(setup.reporting, routers, events, setup.seed)
        self._lives: dict[WorkerId, int] = {}
        self.workers: dict[WorkerId, VirtualWorker] = {}
        first = worker_ids(setup.cluster)
        if isinstance(setup.cluster, PrefillPool):
            first.append(SINK)
        announced = [self._begin(worker_id).announcement() for worker_id in first]
        for router in routers:
            router.follow(announced, 0.0)
        for incident in setup.incidents:
            events.add(incident.at, self._happen, incident)

    def ask(self, worker: Worker, leg: Leg, now: float) -> None:
        living = self.workers.get(worker.worker_id)
        failure = "unreachable" if living is None else living.ask(leg, now)
        if failure is not None:
            self._events.add(now, leg.asker.leg_failed, leg, failure)

    def block_ids(self, prompt: Prompt, number: int, generated_tokens: int) -> Sequence[Hashable]:
        cluster = self._setup.cluster
        if isinstance(cluster, PrefillPool):
            return prompt.block_ids
        size = cluster.profile.block_tokens
        block_ids: list[Hashable] = list(engine_blocks(prompt, size))
        total_count = (prompt.prompt_tokens + generated_tokens) // size
        # Nobody else has what was generated.
        own = range(len(block_ids), total_count)
        return [*block_ids, *((number, index) for index in own)]

    def prefilling(self) -> set[WorkerId]:
        """Return the ids of the living who compute prompts."""
        return {
            worker_id for worker_id, living in self.workers.items() if living.worker.role.prefills
        }

    # Comings and goings

    def _happen(self, incident: Incident, now: float) -> None:
        """Let *incident* happen, unless whoever was to go has left, or who was to join is back."""
        living = self.workers.get(incident.worker_id)
        if living is None:
            if incident.kind == "join":
                self._reports.changed(self._begin(incident.worker_id), now)
        elif incident.kind == "die":
            self._end(living, now + self._setup.notice_seconds)
            living.die(now)
        elif incident.kind == "leave":
            living.drain(now)
        elif living.worker.state is WorkerState.DRAINING:
            self._events.add(now + AGAIN_SECONDS, self._happen, incident)

    def _begin(self, worker_id: WorkerId) -> VirtualWorker:
        life = self._lives[worker_id] = self._lives.get(worker_id, 0) + 1
        setup = self._setup
        speed = 1.0
        if worker_id != SINK:
            speed = setup.speeds[int(worker_id[1:]) % len(setup.speeds)]
        engine, size_tokens, block_tokens = make_engine(setup.cluster, worker_id, speed)
        worker = Worker(
            worker_id=worker_id,
            incarnation=Incarnation(f"{life:06}"),
            service=MODEL,
            role=Role.DECODE if worker_id == SINK else role_of(worker_id),
            revision="1",
            address=f"virtual://{worker_id}",
            model=MODEL,
            engine=Engine(version="0", compatibility="0"),
            kv_capacity_tokens=size_tokens,
            kv_block_tokens=block_tokens,
            max_model_tokens=max_model_tokens(setup.cluster),
        )
        seconds = step_seconds(setup.cluster, speed)
        living = VirtualWorker(worker, engine, self._events, self._changed, seconds)
        self.workers[worker_id] = living
        return living

    def _changed(self, worker: VirtualWorker, now: float) -> None:
        if worker.worker.worker_id == SINK:
            return
        if worker.worker.state is WorkerState.DRAINING and worker.is_idle:
            self._end(worker, now)
        else:
            self._reports.changed(worker, now)

    def _end(self, worker: VirtualWorker, known_at: float) -> None:
        """Have *worker* be no more, and the routers know of it at *known_at*."""
        worker_id = worker.worker.worker_id
        if self.workers.get(worker_id) is worker:
            del self.workers[worker_id]
            worker.is_alive = False
            self._reports.forget(worker)
            for router in self._routers:
                self._events.add(known_at, router.forget, worker.worker)
