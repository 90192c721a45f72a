"""One worker in virtual time."""

import pytest

from twofold_cluster.identity import Role
from twofold_router.testing import make_worker
from twofold_sim.engine_model import BatchingEngine, EngineModel, Event, Job
from twofold_sim.profiles import Profile, StepCosts
from twofold_sim.virtual.events import EventQueue
from twofold_sim.virtual.serial_engine import SerialEngine
from twofold_sim.virtual.worker import MAX_UNPREFILLED, Failure, Leg, VirtualWorker

PROFILE = Profile(
    name="p",
    source="made up",
    steps=StepCosts(base_seconds=0.01, per_prefill_token=0.001),
    kv_capacity_tokens=10_000,
)


class Asker:
    """Remembers what it was told of its legs."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, float]] = []

    def first_token(self, leg: Leg, event: Event, now: float) -> None:
        self.told.append((leg.job.job_id, "first token", round(now, 6)))

    def leg_ended(self, leg: Leg, now: float) -> None:
        self.told.append((leg.job.job_id, "ended", round(now, 6)))

    def leg_failed(self, leg: Leg, failure: Failure, now: float) -> None:
        self.told.append((leg.job.job_id, failure, round(now, 6)))

    def source_died(self, leg: Leg, now: float) -> None:
        self.told.append((leg.job.job_id, "source died", round(now, 6)))


class World:
    """One worker, and whoever asks it."""

    def __init__(self, engine: EngineModel, role: Role = Role.PREFILL) -> None:
        self.events = EventQueue()
        self.asker = Asker()
        self.changes = 0
        self.worker = VirtualWorker(
            make_worker("p0", role), engine, self.events, self._changed, lambda counts: 0.01
        )

    def _changed(self, worker: VirtualWorker, now: float) -> None:
        self.changes += 1

    def leg(self, name: str, tokens: int = 1000, **job: int) -> Leg:
        block_ids = tuple((name, number) for number in range(tokens // 16))
        return Leg(
            Job(
                job_id=name,
                block_ids=block_ids,
                prompt_tokens=tokens,
                output_tokens=job.get("output_tokens", 1),
                keeps_blocks=bool(job.get("keeps_blocks", 0)),
            ),
            self.asker,
        )


def serial() -> SerialEngine:
    return SerialEngine(seconds_per_token=0.001, cache_tokens=100_000)


def test_legs_end_when_the_engine_says_so() -> None:
    world = World(serial())
    for name in ("a", "b"):
        assert world.worker.ask(world.leg(name), 0.0) is None
    assert world.worker.unprefilled_count == 2
    world.events.run()

    assert world.asker.told == [
        ("a", "first token", 1.0),
        ("a", "ended", 1.0),
        ("b", "first token", 2.0),
        ("b", "ended", 2.0),
    ]
    assert world.worker.is_idle
    assert world.worker.unprefilled_count == 0


def test_what_begins_in_one_moment_is_one_step_of_an_engine() -> None:
    world = World(BatchingEngine(PROFILE), Role.BOTH)
    for name in ("a", "b"):
        world.worker.ask(world.leg(name, 100), 0.0)
    world.events.run()

    assert [told for told in world.asker.told if told[1] == "ended"] == [
        ("a", "ended", 0.21),
        ("b", "ended", 0.21),
    ]


def test_a_busy_prefill_worker_refuses() -> None:
    world = World(serial())
    for number in range(MAX_UNPREFILLED):
        assert world.worker.ask(world.leg(str(number)), 0.0) is None

    assert world.worker.ask(world.leg("more"), 0.0) == "refused"


def test_a_leaving_worker_refuses() -> None:
    world = World(serial())
    world.worker.drain(0.0)

    assert world.worker.ask(world.leg("a"), 0.0) == "refused"


def test_a_job_that_never_fits_is_rejected() -> None:
    world = World(BatchingEngine(PROFILE))

    assert world.worker.ask(world.leg("a", 20_000), 0.0) == "rejected"
    assert world.worker.is_idle


def test_death_breaks_what_is_in_hand_and_takes_the_blocks_that_were_kept() -> None:
    world = World(BatchingEngine(PROFILE), Role.BOTH)
    kept, streaming = (
        world.leg("kept", 100, keeps_blocks=1),
        world.leg("streaming", 100, output_tokens=1000),
    )
    world.worker.ask(kept, 0.0)
    world.worker.ask(streaming, 0.0)
    world.events.add(0.505, world.worker.die)
    world.events.run()

    assert world.asker.told[-2:] == [
        ("streaming", "broken", 0.505),
        ("kept", "source died", 0.505),
    ]
    # After the step of both prompts, 0.21 s, one token every 0.01 s.
    assert streaming.generated_tokens == pytest.approx(1 + 29, abs=1)
    assert not world.worker.is_alive


def test_kept_blocks_are_given_back_once_they_are_released() -> None:
    engine = BatchingEngine(PROFILE)
    world = World(engine)
    leg = world.leg("a", 100, keeps_blocks=1)
    world.worker.ask(leg, 0.0)
    world.events.run()
    found = [(world.worker.is_idle, engine.counts().kv_used_fraction > 0)]
    for _ in range(2):
        world.worker.release(leg, 1.0)
        found.append((world.worker.is_idle, engine.counts().kv_used_fraction > 0))

    assert found == [(False, True), (True, False), (True, False)]


def test_the_speed_that_is_announced_is_the_median_of_the_prefills() -> None:
    world = World(serial())
    assert world.worker.announcement().load.seconds_per_prefill_token is None
    for number in range(3):
        world.worker.ask(world.leg(str(number), 100 * (number + 1)), 0.0)
    world.events.run()

    seconds = world.worker.announcement().load.seconds_per_prefill_token
    assert seconds == pytest.approx(0.001)
