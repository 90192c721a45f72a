"""A service on an existing Ray, whose manager and workers are always of one making."""

from dataclasses import replace
from typing import Any

import pytest

from twofold_operator.planning.memory import MEMORY_KEY
from twofold_operator.planning.testing import World

SPEC: dict[str, Any] = {
    "model": {"source": "hf://acme/small"},
    "prefill": {"replicas": 1},
    "decode": {"replicas": 1},
    "ray": {"address": "ray.example:6379"},
}
PULLED_OTHERWISE = {"images": {"pullPolicy": "Always", "pullSecrets": [{"name": "another"}]}}


@pytest.fixture
def world() -> World:
    """A service that serves."""
    world = World(SPEC)
    world.settle()
    return world


def templates(world: World) -> dict[str, Any]:
    """Return the pods of the managers."""
    return {
        name: child["spec"]["template"]
        for (kind, name), child in world.objects.items()
        if kind == "Deployment" and name.endswith("-pools")
    }


def roll(world: World, rounds: int = 60) -> None:
    """Go on until another revision serves alone; no manager that runs may be made anew."""
    seen = templates(world)
    for _ in range(rounds):
        world.follow(world.plan())
        world.live()
        for name, template in templates(world).items():
            assert seen.setdefault(name, template) == template
        served = {worker.role for worker in world.workers if not worker.standby}
        assert served == {"prefill", "decode"}
    assert len(templates(world)) == 1


def test_another_way_to_pull_images_is_a_rollout(world: World) -> None:
    before = set(templates(world))
    world.change({**SPEC, **PULLED_OTHERWISE})

    roll(world)

    (pod,) = (template["spec"] for template in templates(world).values())
    assert templates(world).keys().isdisjoint(before)
    assert pod["containers"][0]["imagePullPolicy"] == "Always"
    assert pod["imagePullSecrets"] == [{"name": "another"}]


def arguments(pod: dict[str, Any]) -> list[str]:
    """Return what the pool manager in *pod* is told."""
    (manager,) = (one for one in pod["spec"]["containers"] if one["name"] == "pools")
    return list(manager["args"])


def test_only_a_manager_whose_ray_goes_on_without_its_pod_leaves_its_workers(world: World) -> None:
    (template,) = templates(world).values()
    assert "--leave-workers" in arguments(template)

    own = World({name: part for name, part in SPEC.items() if name != "ray"})
    own.settle()

    (cluster,) = (child for (kind, _), child in own.objects.items() if kind == "RayCluster")
    assert "--leave-workers" not in arguments(cluster["spec"]["headGroupSpec"]["template"])


@pytest.mark.parametrize("change", [{"image_pull_secrets": ("a",)}, {"drain_seconds": 7.0}])
def test_an_operator_that_is_told_otherwise_is_a_rollout(world: World, change: Any) -> None:
    before = set(templates(world))
    world.settings = replace(world.settings, **change)

    roll(world)

    assert templates(world).keys().isdisjoint(before)


def test_a_lost_memory_does_not_touch_the_manager_of_a_revision_that_leaves(world: World) -> None:
    (before,) = templates(world).items()
    world.settings = replace(world.settings, image_pull_secrets=("a",))
    world.objects["ConfigMap", "chat-revisions"]["data"] = {MEMORY_KEY: "{}"}

    world.follow(world.plan())

    assert before in templates(world).items()
