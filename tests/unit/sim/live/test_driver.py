import asyncio
from collections.abc import Callable

import pytest

from twofold_sim.engine_model import BatchingEngine, Event, Job
from twofold_sim.live.driver import Driver
from twofold_sim.profiles import Profile, StepCosts

SECOND = 1.0
PROFILE = Profile(
    name="test",
    source="",
    steps=StepCosts(base_seconds=SECOND),
    kv_capacity_tokens=1600,
    block_tokens=16,
)
FAST = 1000.0


def job(name: str, *, output_tokens: int = 3, keeps_blocks: bool = False) -> Job:
    return Job(name, (), 20, output_tokens, keeps_blocks=keeps_blocks)


class Heard:
    """Keeps a job's events, and knows when it has finished."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.finished = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if event.kind == "finished":
            self.finished.set()

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


def a_driver(
    profile: Profile = PROFILE, speed: float = FAST, on_change: Callable[[], None] = lambda: None
) -> Driver:
    return Driver(BatchingEngine(profile, tells_each_token=True), speed, on_change)


async def heard(listener: Heard) -> None:
    async with asyncio.timeout(10):
        await listener.finished.wait()


async def test_each_token_is_told_at_its_time() -> None:
    driver, listener = a_driver(), Heard()
    driver.add(job("a"), listener)
    await heard(listener)

    assert listener.kinds == ["first-token", "tokens", "tokens", "finished"]
    first, *others, last = [event.at for event in listener.events]
    assert [at - first for at in others] == pytest.approx([SECOND, 2 * SECOND])
    assert last == others[-1]
    driver.close()


async def test_an_aborted_job_is_told_of_no_more_and_is_gone() -> None:
    driver, aborted, other = a_driver(), Heard(), Heard()
    driver.add(job("a", output_tokens=1000), aborted)
    driver.add(job("b"), other)
    driver.abort("a")
    await heard(other)

    assert aborted.events == []
    assert (driver.counts().running, driver.counts().waiting) == (0, 0)
    driver.close()


async def test_a_job_that_another_ones_listener_aborts_is_told_of_no_more() -> None:
    driver, victim, other = a_driver(), Heard(), Heard()
    heard_before: list[int] = []

    def kill(event: Event) -> None:
        other(event)
        if event.token_count == 10 and not heard_before:
            heard_before.append(len(victim.events))
            driver.abort("victim")

    driver.add(job("other", output_tokens=12), kill)
    driver.add(job("victim", output_tokens=1000), victim)
    await heard(other)

    assert heard_before == [len(victim.events)]
    assert heard_before[0] > 0
    assert driver.counts().kv_used_fraction == 0
    driver.close()


async def test_kept_blocks_are_used_until_they_are_released() -> None:
    driver, listener = a_driver(), Heard()
    driver.add(job("a", output_tokens=1, keeps_blocks=True), listener)
    await heard(listener)

    assert driver.counts().kv_used_fraction > 0
    driver.release("a")
    assert driver.counts().kv_used_fraction == 0
    driver.close()


async def test_the_clock_goes_on_from_where_it_is_at_another_speed() -> None:
    driver = a_driver(speed=1e6)
    before = driver.now()
    driver.set_speed(1e-6)
    middle = driver.now()
    after = driver.now()

    assert before <= middle
    assert after - middle < 1e-3
    driver.close()


async def test_changes_are_told_once_for_a_turn_of_the_loop() -> None:
    changes: list[int] = []
    driver = a_driver(on_change=lambda: changes.append(1))
    for name in "abc":
        driver.add(job(name, output_tokens=1000), Heard())
    await asyncio.sleep(0)

    assert len(changes) == 1
    driver.close()


async def test_a_closed_driver_tells_nothing() -> None:
    changes: list[int] = []
    driver, listener = a_driver(on_change=lambda: changes.append(1)), Heard()
    driver.add(job("a"), listener)
    driver.close()
    await asyncio.sleep(0)

    assert listener.events == []
    assert changes == []
