"""Pods of Ray that end, and those that do not come to their end."""

from typing import Any

from twofold_cluster.identity import Role
from twofold_operator.planning.actions import LookAgain
from twofold_operator.planning.testing import World

SPEC: dict[str, Any] = {
    "model": {"source": "hf://acme/small"},
    "prefill": {"replicas": 1},
    "decode": {"replicas": 3},
}
LATE = 3600.0
"""After this long whatever ends by itself has gone."""


def serving() -> World:
    world = World(SPEC)
    world.settle()
    return world


def pods(world: World, role: str = "decode") -> dict[str, bool]:
    """Return the names of the pods of *role*, and whether they end."""
    return {
        name: "deletionTimestamp" in pod["metadata"]
        for (kind, name), pod in world.objects.items()
        if kind == "Pod" and f"-{role}-" in name
    }


def told(world: World) -> tuple[int, list[str]]:
    """Return how many pods for decoding KubeRay shall have, and which it shall not count."""
    (cluster,) = (child for (kind, _), child in world.objects.items() if kind == "RayCluster")
    group = cluster["spec"]["workerGroupSpecs"][1]
    return group["replicas"], group.get("scaleStrategy", {}).get("workersToDelete", [])


def nodes(world: World) -> list[str]:
    return [worker.node for worker in world.workers if worker.role is Role.DECODE]


def lose(world: World) -> str:
    """Delete the pod of a worker on a node that is lost; return its name."""
    lost = nodes(world)[0]
    world.lost.add(lost)
    world.objects["Pod", lost]["spec"] = {"nodeName": "gpu-7"}
    world.remove("Pod", lost)
    world.follow(world.plan())
    return lost


def find(world: World, lost: str) -> None:
    """Delete a pod by force, as people and Kubernetes do whose node is lost."""
    del world.objects["Pod", lost]
    world.settle()


def test_a_pod_that_is_long_in_ending_takes_no_other_with_it() -> None:
    world = serving()
    world.lost = set(pods(world))
    world.scale("decode", 2)

    world.settle()

    assert world.killed == []
    (ending,) = (name for name, is_ending in pods(world).items() if is_ending)
    assert told(world) == (2, [ending])
    assert len(pods(world)) == 3


def test_a_pod_that_ends_is_replaced_at_once() -> None:
    world = serving()

    lost = lose(world)
    world.live()

    assert told(world) == (3, [lost])
    assert sum(not is_ending for is_ending in pods(world).values()) == 3
    find(world, lost)
    assert told(world) == (3, [])
    assert len(pods(world)) == 3


def test_a_pod_that_ends_does_not_count_when_there_are_to_be_fewer() -> None:
    world = serving()
    lost = nodes(world)[0]
    world.lost.add(lost)
    world.remove("Pod", lost)
    (manager,) = world.managers.values()
    manager.workers = [worker for worker in manager.workers if worker.node != lost]
    world.scale("decode", 2)

    world.settle()

    assert world.killed == []
    assert told(world) == (2, [lost])
    assert sorted(nodes(world)) == [
        name for name, is_ending in pods(world).items() if not is_ending
    ]


def test_what_kuberay_was_told_to_delete_stays_so_while_nobody_says_who_works_where() -> None:
    world = serving()
    world.scale("decode", 2)
    while not told(world)[1]:
        world.follow(world.plan())
        if not told(world)[1]:
            world.live()
    count, doomed = told(world)

    world.unreachable = set(world.managers)
    world.follow(world.plan())

    assert (count, len(doomed)) == (2, 1)
    assert told(world) == (2, doomed)


def test_a_pod_that_does_not_end_is_said_with_what_ends_it() -> None:
    world = serving()
    lost = lose(world)
    world.settle()
    assert world.condition("Degraded")["reason"] == "AsExpected"

    (look,) = (action for action in world.plan() if isinstance(action, LookAgain))
    world.now += look.after_seconds
    world.follow(world.plan())

    degraded = world.condition("Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "PodsStuck")
    message = degraded["message"]
    assert f"pod {lost} on node gpu-7 does not end since" in message
    assert f"kubectl delete pod {lost} --force" in message
    assert "kubectl taint node gpu-7 node.kubernetes.io/out-of-service=nodeshutdown" in message
    find(world, lost)
    assert world.condition("Degraded")["reason"] == "AsExpected"


def test_a_head_that_does_not_end_is_said_where_its_manager_is_missed() -> None:
    world = serving()
    (cluster,) = (child for (kind, _), child in world.objects.items() if kind == "RayCluster")
    template = cluster["spec"]["headGroupSpec"]["template"]["metadata"]
    metadata = {"name": "the-head", "namespace": "models", "uid": "head", **template}
    world.objects["Pod", "the-head"] = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
    world.lost.add("the-head")
    world.remove("Pod", "the-head")
    world.unreachable = set(world.managers)
    world.now += LATE
    lost = {"type": "HeadPodReady", "status": "False", "reason": "Lost", "message": ""}
    cluster["status"] = {"conditions": [{**lost, "lastTransitionTime": "1970-01-01T00:00:00Z"}]}

    world.follow(world.plan())

    for kind in ("Degraded", "DecodeReady", "Ready"):
        message = world.condition(kind)["message"]
        assert "pod the-head does not end" in message
        assert "KubeRay makes no other head before it has gone" in message


def test_finalizers_of_a_pod_that_does_not_end_are_named() -> None:
    world = serving()
    lost = lose(world)
    world.objects["Pod", lost]["metadata"]["finalizers"] = ["example.com/backup"]
    world.now += LATE

    world.follow(world.plan())

    message = world.condition("Degraded")["message"]
    assert "whoever set its finalizers must take them off: example.com/backup" in message
    assert "--force" not in message
