"""Another URL of Redis: it reaches whoever runs, and nobody is left without a partner meanwhile."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from twofold_operator.planning.actions import ApplyObject
from twofold_operator.planning.following import secret_of
from twofold_operator.planning.redis import redis_at
from twofold_operator.planning.rollout import ROLES
from twofold_operator.planning.testing import World

REPLICAS = 2
BEFORE, AFTER = "redis://:one@redis:6379/0", "redis://:two@redis:6379/0"
EXISTING: dict[str, Any] = {"ray": {"address": "ray.example:6379"}}
BOTH = pytest.mark.parametrize("further", [{}, EXISTING], ids=["kuberay", "existing-ray"])


def world_with(further: dict[str, Any], surge: int | str = 1) -> World:
    """Return a service that serves with the URL before."""
    spec = {
        "model": {"source": "hf://acme/small"},
        "prefill": {"replicas": REPLICAS},
        "decode": {"replicas": REPLICAS},
        "gateway": {"replicas": 2},
        "rollout": {"maxSurge": surge},
        **further,
    }
    world = World(spec)
    move(world, BEFORE)
    world.settle()
    return world


def move(world: World, url: str) -> None:
    """Start the operator again with another URL."""
    world.settings = replace(world.settings, redis_url=url)


def routers(world: World) -> list[dict[str, Any]]:
    return [o for (kind, name), o in world.objects.items() if kind == "Pod" and "router" in name]


def secrets(world: World) -> list[str]:
    return [name for kind, name in world.objects if kind == "Secret"]


def steps(world: World, count: int = 60) -> Iterator[int]:
    for step in range(count):
        world.follow(world.plan())
        world.live()
        yield step


@BOTH
@pytest.mark.parametrize("surge", [1, "100%"])
def test_another_redis_is_a_rollout_of_workers_and_routers(
    surge: int | str, further: dict[str, Any]
) -> None:
    world = world_with(further, surge)
    old = world.service["status"]["revision"]
    most = REPLICAS + (surge if isinstance(surge, int) else REPLICAS)
    move(world, AFTER)
    for step in steps(world):
        assert world.blind_routers == [], f"step {step}"
        assert world.killed == []
        # A pod that starts again finds the URL that it had.
        assert world.served <= set(secrets(world)), f"step {step}"
        for role in ROLES:
            assert len([w for w in world.workers if w.role is role]) <= most, f"step {step}"
    world.settle()

    assert world.service["status"]["revision"] != old
    assert secrets(world) == [f"chat-redis-{redis_at(AFTER).id}"]
    assert [secret_of(pod["spec"]) for pod in routers(world)] == secrets(world) * 2


@BOTH
def test_going_back_to_the_redis_before_leaves_its_workers_as_they_were(
    further: dict[str, Any],
) -> None:
    world = world_with(further)
    before = {worker.worker_id for worker in world.workers}
    move(world, AFTER)
    for _ in steps(world, 3):
        pass
    move(world, BEFORE)
    for step in steps(world):
        assert world.blind_routers == [], f"step {step}"

    assert {worker.worker_id for worker in world.workers} == before
    assert secrets(world) == [f"chat-redis-{redis_at(BEFORE).id}"]


@BOTH
def test_a_redis_that_no_worker_reaches_leaves_all_as_it_was(further: dict[str, Any]) -> None:
    world = world_with(further)
    old = world.service["status"]["revision"]
    move(world, AFTER)
    world.follow(world.plan())
    homes = [key for key in world.objects if key[0] in ("RayCluster", "Deployment")]
    world.broken = {key[1].split("-")[1] for key in homes} - {old, "router"}
    for _ in range(12):
        world.follow(world.plan())
        world.live(300.0)
        assert world.blind_routers == []

    assert world.condition("Ready")["status"] == "True"
    assert world.condition("Progressing")["reason"] == "DeadlineExceeded"
    assert world.service["status"]["revision"] == old


def test_the_old_revision_stays_until_its_last_router_has_ended() -> None:
    world = world_with({}, "100%")
    old = world.service["status"]["revision"]
    move(world, AFTER)
    has_waited = False
    for _ in steps(world):
        if f"chat-redis-{redis_at(BEFORE).id}" in {secret_of(p["spec"]) for p in routers(world)}:
            kept = [w for w in world.workers if w.revision == old and not w.standby]
            assert {worker.role for worker in kept} == set(ROLES)
            has_waited |= "are being replaced" in world.condition("Progressing")["message"]

    assert has_waited
    assert {worker.revision for worker in world.workers} == {world.service["status"]["revision"]}


@BOTH
def test_the_old_revision_ends_also_when_its_redis_has_gone(further: dict[str, Any]) -> None:
    world = world_with(further)
    old = world.service["status"]["revision"]
    world.lost_redis.add(f"chat-redis-{redis_at(BEFORE).id}")
    move(world, AFTER)
    for _ in steps(world):
        pass

    # Long before the limit on what a leaving revision may take.
    assert not [worker for worker in world.workers if worker.revision == old]
    assert world.killed == []
    assert world.condition("Progressing")["reason"] == "Complete"


def test_a_router_that_never_ends_holds_the_old_revision_no_longer_than_it_may_take() -> None:
    world = world_with({})
    move(world, AFTER)
    for _ in steps(world):
        for pod in routers(world):  # its node is gone, and nobody says that it has ended
            if "ends_at" in pod["metadata"]:
                pod["metadata"]["ends_at"] = float("inf")

    assert world.condition("Progressing")["reason"] == "Complete"


@BOTH
def test_what_runs_is_left_alone_when_the_secret_of_its_redis_is_lost(
    further: dict[str, Any],
) -> None:
    world = world_with(further)
    old = world.service["status"]["revision"]
    move(world, AFTER)
    world.follow(world.plan())
    world.live()
    world.remove("Secret", f"chat-redis-{redis_at(BEFORE).id}")

    homes = [a.manifest for a in world.plan() if isinstance(a, ApplyObject)]
    assert not [home for home in homes if old in home["metadata"]["name"]]
    for _ in steps(world):
        assert world.blind_routers == []
    world.settle()
    assert world.service["status"]["revision"] != old


def test_no_name_tells_a_url() -> None:
    assert redis_at(BEFORE).id != redis_at(AFTER).id
    assert redis_at(BEFORE) == redis_at(BEFORE)
    assert len(redis_at(BEFORE).id) == 8
