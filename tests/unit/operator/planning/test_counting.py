"""The counts of a service that is not planned, as its workers may serve all the same."""

from dataclasses import replace
from typing import Any

import pytest

from twofold_operator.planning.observed import Phase
from twofold_operator.planning.reporting import failure_report
from twofold_operator.planning.testing import World

SPEC: dict[str, Any] = {
    "model": {"source": "hf://acme/small"},
    "prefill": {"replicas": 1},
    "decode": {"replicas": 2},
}
BAD = {**SPEC, "engine": "no such"}


@pytest.fixture
def world() -> World:
    """A service that serves."""
    world = World(SPEC)
    world.settle()
    return world


def fail(world: World) -> None:
    """Have the plan end with an error of ours."""
    world.follow(failure_report(world.observed(), RuntimeError("a fault"), world.now))
    assert world.condition("Ready")["reason"] == "PlanFailed"


def forget(world: World) -> None:
    """Delete the memory, and with it the last good spec."""
    world.remove("ConfigMap", "chat-revisions")


def lose_a_decode_worker(world: World) -> None:
    (manager,) = world.managers.values()
    index = next(i for i, worker in enumerate(manager.workers) if worker.role == "decode")
    manager.workers[index] = replace(manager.workers[index], phase=Phase.DEAD)


def summaries(world: World) -> list[str | None]:
    status = world.service["status"]
    return [status.get(role, {}).get("summary") for role in ("prefill", "decode")]


def test_workers_are_counted_though_the_plan_fails(world: World) -> None:
    fail(world)
    assert summaries(world) == ["1/1", "2/2"]

    lose_a_decode_worker(world)
    fail(world)

    assert summaries(world) == ["1/1", "1/2"]
    assert world.service["status"]["decode"]["updated"] == 1


def test_workers_are_counted_though_no_good_spec_is_known(world: World) -> None:
    world.change(BAD)
    forget(world)
    lose_a_decode_worker(world)

    world.follow(world.plan())

    assert world.condition("Ready")["reason"] == "InvalidSpec"
    assert summaries(world) == ["1/1", "1/2"]


def test_without_a_status_before_what_is_wanted_is_what_the_pools_are_scaled_to(
    world: World,
) -> None:
    del world.service["status"]

    fail(world)

    assert summaries(world) == ["1/1", "2/2"]


def test_a_silent_managers_workers_count_as_before_though_the_plan_fails(world: World) -> None:
    world.unreachable = set(world.managers)

    fail(world)

    assert summaries(world) == ["1/1", "2/2"]


def test_a_service_of_which_nothing_was_ever_made_counts_nothing() -> None:
    world = World(BAD)

    world.settle()

    assert summaries(world) == [None, None]


@pytest.mark.parametrize("is_forgotten", [True, False])
def test_a_pool_that_was_deleted_while_the_spec_was_bad_is_made_again_as_it_was_scaled(
    is_forgotten: bool,
) -> None:
    good = {**SPEC, "decode": {"minReplicas": 1}}
    world = World(good)
    world.settle()
    world.scale("decode", 3)
    world.settle()

    world.change({**good, "engine": "no such"})
    if is_forgotten:
        forget(world)
    world.remove("WorkerPool", "chat-decode")
    world.follow(world.plan())
    world.change(good)
    world.settle()

    assert world.objects["WorkerPool", "chat-decode"]["spec"]["replicas"] == 3
