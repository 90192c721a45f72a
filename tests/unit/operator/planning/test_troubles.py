"""What is said of workers that have no pod, or one without a place."""

from typing import Any

from twofold_operator.planning.observed import Phase
from twofold_operator.planning.testing import World

SPEC: dict[str, Any] = {
    "model": {"source": "hf://acme/small"},
    "prefill": {"replicas": 1},
    "decode": {"replicas": 2},
}
QUOTA = 'failed to create worker pod: pods "x" is forbidden: exceeded quota: gpus'
FULL = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."


def serving() -> World:
    world = World(SPEC)
    world.settle()
    return world


def condition(kind: str, status: str, reason: str, message: str) -> dict[str, Any]:
    return {"conditions": [{"type": kind, "status": status, "reason": reason, "message": message}]}


def report(world: World, status: dict[str, Any]) -> None:
    """Have KubeRay report *status* of the RayCluster."""
    (cluster,) = (child for (kind, _), child in world.objects.items() if kind == "RayCluster")
    cluster["status"] = status


def scale_without_places(world: World, status: dict[str, Any] | None = None) -> None:
    """Want two workers more, without a place for them; their pods, if any, say *status*."""
    before = set(world.objects)
    world.scale("decode", 4)
    for _ in range(3):
        world.follow(world.plan())
        world.live()
        for key in set(world.objects) - before:
            if status is None:
                del world.objects[key]
            else:
                world.objects[key]["status"] = status
    (manager,) = world.managers.values()
    manager.workers = [w for w in manager.workers if w.phase is Phase.READY][:3]
    manager.live(lambda role: None)
    world.follow(world.plan())


def test_why_pods_cannot_be_made_is_said_of_workers_that_wait_for_a_place() -> None:
    world = serving()
    scale_without_places(world)
    report(world, condition("ReplicaFailure", "True", "FailedCreateWorkerPod", QUOTA))

    world.follow(world.plan())

    message = world.condition("DecodeReady")["message"]
    assert "is pending" in message
    assert f"ReplicaFailure is True (FailedCreateWorkerPod): {QUOTA}" in message
    (pool,) = world.objects["WorkerPool", "chat-decode"]["status"]["conditions"]
    assert QUOTA in pool["message"]


def test_why_pods_have_no_place_is_said_once() -> None:
    world = serving()
    scale_without_places(world, condition("PodScheduled", "False", "Unschedulable", FULL))

    message = world.condition("DecodeReady")["message"]
    assert f"PodScheduled is False (Unschedulable): {FULL}" in message
    assert message.count(FULL) == 1


def test_where_all_serve_nothing_is_said_of_pods() -> None:
    world = serving()
    report(world, condition("ReplicaFailure", "True", "FailedCreateWorkerPod", QUOTA))

    world.follow(world.plan())

    assert world.condition("DecodeReady")["message"] == "2 of 2 decode workers are ready"


def test_why_a_head_has_no_place_is_said_where_its_manager_is_missed() -> None:
    world = World(SPEC)
    world.follow(world.plan())
    (cluster,) = (child for (kind, _), child in world.objects.items() if kind == "RayCluster")
    template = cluster["spec"]["headGroupSpec"]["template"]["metadata"]
    metadata = {"name": "the-head", "namespace": "models", "uid": "head", **template}
    status = condition("PodScheduled", "False", "Unschedulable", FULL)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": status}
    world.objects["Pod", "the-head"] = pod

    world.follow(world.plan())

    assert (
        f"pod the-head: PodScheduled is False (Unschedulable): {FULL}"
        in (world.condition("DecodeReady")["message"])
    )
