"""A router replica."""

from collections.abc import Iterable

from twofold_cluster.identity import Role, WorkerId
from twofold_cluster.worker import Worker, WorkerState
from twofold_router.placement import (
    POLICIES,
    Decision,
    Dispatch,
    PlacementRequest,
    PlacementSettings,
    Placer,
    Refuse,
)
from twofold_router.placement.testing import make_request
from twofold_router.testing import make_worker
from twofold_sim.virtual.events import EventQueue
from twofold_sim.virtual.routing import Router


class Recorded(Placer):
    """A placement that remembers what it was told of workers, and when time passed for it."""

    def __init__(self) -> None:
        super().__init__(POLICIES["round-robin"], PlacementSettings(on_no_prefill="fail"))
        self.states: list[tuple[float, str, WorkerState]] = []
        self.ticks = 0

    def workers_changed(self, workers: Iterable[Worker], now: float) -> list[Decision]:
        told = list(workers)
        self.states += [(round(now, 3), worker.worker_id, worker.state) for worker in told]
        return super().workers_changed(told, now)

    def tick(self, now: float) -> list[Decision]:
        self.ticks += 1
        return super().tick(now)


class World:
    """A router of two prefill workers and one that decodes."""

    def __init__(self) -> None:
        self.events = EventQueue()
        self.placement = Recorded()
        self.router = Router(self.placement, self.events, suspect_seconds=1.0)
        self.workers = [
            make_worker("p0", Role.PREFILL),
            make_worker("p1", Role.PREFILL),
            make_worker("d0", Role.DECODE),
        ]
        self.router.follow(self.workers, 0.0)
        self.decisions: list[Decision] = []

    def decide(self, decision: Decision, now: float) -> None:
        self.decisions.append(decision)

    def submit(self, request: PlacementRequest) -> None:
        self.router.submit(request, self.decide, 0.0)


def test_whoever_cannot_be_reached_gets_nothing_new_for_a_while() -> None:
    world = World()
    world.placement.states.clear()
    world.router.suspect(world.workers[0], 0.0)
    world.events.run()

    assert world.placement.states == [
        (0.0, "p0", WorkerState.DRAINING),
        (1.01, "p0", WorkerState.READY),
    ]


def test_a_report_of_a_suspect_does_not_bring_it_back() -> None:
    world = World()
    world.router.suspect(world.workers[0], 0.0)
    world.router.follow([world.workers[0]], 0.5)

    assert world.placement.states[-1] == (0.5, "p0", WorkerState.DRAINING)


def test_time_passes_only_while_there_are_requests() -> None:
    world = World()
    world.submit(make_request("r"))
    [decision] = world.decisions
    assert isinstance(decision, Dispatch)
    world.events.add(0.12, lambda now: world.router.finished("r", None, now))
    world.events.run()

    assert world.placement.ticks == 3


def test_time_does_not_pass_for_the_refused() -> None:
    world = World()
    for worker in world.workers:
        world.router.forget(worker, 0.0)
    world.submit(make_request("r"))
    world.events.run()

    assert isinstance(world.decisions[0], Refuse)
    assert world.placement.ticks == 1


def test_the_news_of_a_death_does_not_bury_the_next_life() -> None:
    world = World()
    reborn = make_worker("p0", Role.PREFILL, incarnation="2")
    world.router.follow([reborn], 1.0)
    world.router.forget(world.workers[0], 2.0)

    counts = {each.worker_id for each in world.router.snapshot().workers}
    assert WorkerId("p0") in counts
