"""The way of load reports."""

from collections.abc import Sequence

from twofold_cluster.identity import Role
from twofold_cluster.worker import Worker
from twofold_router.testing import make_worker
from twofold_sim.engine_model import Event, Job
from twofold_sim.virtual.events import EventQueue
from twofold_sim.virtual.reporting import Reports
from twofold_sim.virtual.serial_engine import SerialEngine
from twofold_sim.virtual.setup import Reporting
from twofold_sim.virtual.worker import Failure, Leg, VirtualWorker


class Heard:
    """A router that only listens: the moments, and how many were not prefilled."""

    def __init__(self) -> None:
        self.reports: list[tuple[float, int]] = []

    def follow(self, changed: Sequence[Worker], now: float) -> None:
        for worker in changed:
            self.reports.append((round(now, 6), worker.load.unprefilled_count))


class Nobody:
    """Asks for legs, and does not care."""

    def first_token(self, leg: Leg, event: Event, now: float) -> None: ...
    def leg_ended(self, leg: Leg, now: float) -> None: ...
    def leg_failed(self, leg: Leg, failure: Failure, now: float) -> None: ...
    def source_died(self, leg: Leg, now: float) -> None: ...


class World:
    """One worker that reports to *count* routers, and is given a job at each of *moments*."""

    def __init__(self, reporting: Reporting, moments: Sequence[float], count: int = 1) -> None:
        self.events = EventQueue()
        self.routers = [Heard() for _ in range(count)]
        self.reports = Reports(reporting, self.routers, self.events, seed=0)
        self.worker = VirtualWorker(
            make_worker("p0", Role.PREFILL),
            SerialEngine(seconds_per_token=0.1, cache_tokens=10_000),
            self.events,
            self.reports.changed,
            lambda counts: 0.0,
        )
        for number, moment in enumerate(moments):
            self.events.add(moment, self._ask, number)

    def _ask(self, number: int, now: float) -> None:
        job = Job(str(number), (number,), prompt_tokens=100, output_tokens=1)
        assert self.worker.ask(Leg(job, Nobody()), now) is None


def test_a_change_is_reported_at_once_and_the_next_after_a_gap() -> None:
    world = World(Reporting(), [1.0, 1.01, 1.02])
    world.events.run()

    assert world.routers[0].reports[:2] == [(1.0, 1), (1.05, 3)]


def test_reports_are_late_and_in_order() -> None:
    reporting = Reporting(least_delay_seconds=0.05, most_delay_seconds=1.0)
    world = World(reporting, [1.0 + 0.06 * number for number in range(20)])
    world.events.run()

    moments = [at for at, _ in world.routers[0].reports]
    counts = [count for _, count in world.routers[0].reports]
    assert moments[0] >= 1.05
    assert counts[:20] == list(range(1, 21))
    assert max(moments[number] - (1.0 + 0.06 * number) for number in range(20)) > 0.5


def test_a_lost_report_is_made_up_for() -> None:
    world = World(Reporting(loss=0.5), [1.0, 2.0, 3.0], count=2)
    world.events.run()

    first, second = (router.reports for router in world.routers)
    assert first != second
    assert first[-1][1] == second[-1][1] == 0


def test_the_dead_report_nothing() -> None:
    world = World(Reporting(most_delay_seconds=1.0, least_delay_seconds=1.0), [1.0])
    world.events.add(1.5, world.worker.die)
    world.events.run()

    assert world.routers[0].reports == []


def test_nobody_sends_for_ever_what_is_always_lost() -> None:
    world = World(Reporting(loss=1.0), [1.0])
    world.events.run()

    assert world.routers[0].reports == []
