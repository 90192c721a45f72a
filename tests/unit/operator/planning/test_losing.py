"""What is deleted by hand in the middle of a rollout, at whichever step of it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from twofold_operator.planning import names
from twofold_operator.planning.observed import Phase
from twofold_operator.planning.rollout import ROLES
from twofold_operator.planning.testing import World

REPLICAS = 3
STEPS = 40
EXISTING = {"ray": {"address": "ray.example:6379"}}

Key = tuple[str, str]


def spec(model: str, surge: int | str, further: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": {"source": f"hf://acme/{model}"},
        "prefill": {"replicas": REPLICAS},
        "decode": {"replicas": REPLICAS},
        "rollout": {"maxSurge": surge},
        **further,
    }


def memory(world: World) -> list[Key]:
    return [("ConfigMap", "chat-revisions")]


def ways(world: World) -> list[Key]:
    return [key for key in world.objects if key[0] == "Service" and key[1].endswith("-pools")]


def memory_and_ways(world: World) -> list[Key]:
    return [*memory(world), *ways(world)]


def garbled(world: World) -> list[Key]:
    """Have somebody write into the memory, and into what is written on the revisions' homes."""
    for child in world.objects.values():
        child["metadata"].get("annotations", {}).pop(names.RECORD_ANNOTATION, None)
    return memory(world)


def pools(world: World) -> list[Key]:
    return [key for key in world.objects if key[0] == "WorkerPool"]


def secrets(world: World) -> list[Key]:
    return [key for key in world.objects if key[0] == "Secret"]


def rollouts(surge: int | str, further: dict[str, Any]) -> Iterator[tuple[int, World]]:
    """Yield a rollout after each of its steps."""
    for steps in range(1, STEPS):
        world = World(spec("a", surge, further))
        world.settle()
        world.change(spec("b", surge, further))
        for _ in range(steps):
            world.follow(world.plan())
            world.live()
        yield steps, world
        if world.condition("Progressing").get("reason") == "Complete":
            return
    raise AssertionError("the rollout never ended")


def complaints(world: World, most: int) -> list[str]:
    """Say what may not be: nobody serves, more workers than the surge allows, one was cut off."""
    found = []
    active = {
        (w.revision, w.role) for w in world.workers if w.phase is Phase.READY and not w.standby
    }
    if not any({(revision, role) for role in ROLES} <= active for revision, _ in active):
        found.append(f"nobody serves: {world.workers}")
    for role in ROLES:
        workers = [worker for worker in world.workers if worker.role is role]
        if len(workers) > most:
            found.append(f"{len(workers)} of {role}, {most} may be")
    if world.killed:
        found.append(f"ended in the middle of its work: {world.killed}")
    return found


@pytest.mark.parametrize("further", [{}, EXISTING], ids=["kuberay", "existing-ray"])
@pytest.mark.parametrize("surge", [1, "100%"])
@pytest.mark.parametrize("lost", [memory, ways, memory_and_ways, pools, secrets])
def test_what_is_lost_in_a_rollout_stops_nobody_from_serving_nor_breaks_the_surge(
    lost: Callable[[World], list[Key]], surge: int | str, further: dict[str, Any]
) -> None:
    most = REPLICAS + (surge if isinstance(surge, int) else REPLICAS)
    for steps, world in rollouts(surge, further):
        for key in lost(world):
            world.remove(*key)
        for _ in range(STEPS):
            world.follow(world.plan())
            world.live()
            assert complaints(world, most) == [], f"lost after {steps} steps"
        world.settle()

        assert world.condition("Progressing")["reason"] == "Complete", f"after {steps} steps"
        assert len({worker.revision for worker in world.workers}) == 1


@pytest.mark.parametrize("further", [{}, EXISTING], ids=["kuberay", "existing-ray"])
def test_a_revision_that_nothing_is_known_of_serves_until_another_does(
    further: dict[str, Any],
) -> None:
    for steps, world in rollouts("100%", further):
        for key in garbled(world):
            world.remove(*key)
        for _ in range(STEPS):
            world.follow(world.plan())
            world.live()
            found = [one for one in complaints(world, 2 * REPLICAS) if "nobody" in one]
            assert found == [], f"lost after {steps} steps"
