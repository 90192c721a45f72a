"""Engines that take the processors from each other."""

import pytest
from benchmarks.shared_machine import SharedMachine
from tests.unit.benchmarks.made_up import PROFILE

from twofold_sim.engine_model import BatchingEngine, Event, Job
from twofold_sim.profiles import Profile


def machine_of(*slowdowns: float) -> SharedMachine:
    return SharedMachine([BatchingEngine(PROFILE) for _ in slowdowns], slowdowns)


def job(name: str, prompt_tokens: int, output_tokens: int = 1) -> Job:
    return Job(name, (), prompt_tokens, output_tokens)


def run(machine: SharedMachine) -> list[tuple[int, Event]]:
    events: list[tuple[int, Event]] = []
    while (at := machine.next_at()) < 1e9:
        events += machine.advance(at)
    return events


def ends(events: list[tuple[int, Event]]) -> dict[str, float]:
    return {event.job_id: event.at for _, event in events if event.kind == "finished"}


def test_who_computes_alone_is_as_fast_as_its_profile() -> None:
    machine = machine_of(2.0, 3.0)
    machine.add(0, job("first", 100), 5.0)

    assert ends(run(machine)) == {"first": pytest.approx(6.0)}


def test_those_who_compute_at_the_same_time_are_slower_each_by_its_own() -> None:
    machine = machine_of(2.0, 3.0)
    machine.add(0, job("short", 100), 0.0)
    machine.add(1, job("long", 200), 0.0)

    # After 2 s the short one has ended, and of the long one's 2 s two thirds of a second.
    assert ends(run(machine)) == {"short": pytest.approx(2.0), "long": pytest.approx(2 + 4 / 3)}


def test_a_step_that_has_begun_is_slower_from_when_another_comes() -> None:
    machine = machine_of(2.0, 2.0)
    machine.add(0, job("first", 100), 0.0)
    machine.add(1, job("second", 100), 0.5)

    assert ends(run(machine)) == {"first": pytest.approx(1.5), "second": pytest.approx(2.0)}


def test_who_only_waits_for_its_requests_slows_nobody() -> None:
    slow_to_arrive = Profile(
        name="slow", source="", steps=PROFILE.steps, request_seconds=4.0, kv_capacity_tokens=1000
    )
    machine = SharedMachine([BatchingEngine(PROFILE), BatchingEngine(slow_to_arrive)], (2.0, 2.0))
    machine.add(0, job("now", 100), 0.0)
    machine.add(1, job("later", 100), 0.0)

    assert ends(run(machine)) == {"now": pytest.approx(1.0), "later": pytest.approx(5.0)}


def test_without_slowdown_it_is_as_if_each_had_its_own() -> None:
    alone = BatchingEngine(PROFILE)
    machine = machine_of(1.0, 1.0)
    for number in range(20):
        alone.add(job(str(number), 10 + number, 5 + number), 0.3 * number)
        machine.add(0, job(str(number), 10 + number, 5 + number), 0.3 * number)
        machine.add(1, job(str(number), 17, 3), 0.3 * number)
    expected = []
    while (at := alone.next_at()) is not None:
        expected += alone.advance(at)

    found = [event for number, event in run(machine) if number == 0]

    assert [(event.job_id, event.kind) for event in found] == [
        (event.job_id, event.kind) for event in expected
    ]
    assert [event.at for event in found] == pytest.approx([event.at for event in expected])


@pytest.mark.timeout(30)
def test_what_is_due_sooner_than_a_number_can_tell_happens_at_once() -> None:
    machine = machine_of(1.1, 1.3)
    at = 0.0
    events = []
    for number in range(100):
        at += (0.1, 0.3, 0.7)[number * number % 7 % 3]
        while (due := machine.next_at()) < at:
            events += machine.advance(due)
        machine.add(number % 2, job(str(number), 10 + 10 * (number % 3), 1 + number % 3), at)
    events += run(machine)

    assert len(ends(events)) == 100
