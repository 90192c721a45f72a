"""The plan of a service, followed in a cluster in memory."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from twofold_cluster.identity import Role
from twofold_operator.planning.actions import (
    ApplyObject,
    DeleteObject,
    LookAgain,
    RecordEvent,
    RemoveFinalizer,
    SetStatus,
    TellPools,
)
from twofold_operator.planning.observed import Phase, Reference
from twofold_operator.planning.redis import redis_at
from twofold_operator.planning.testing import World

URL = "redis://:secret@redis:6379/0"
"""The one that the cluster in memory has."""
REDIS = f"chat-redis-{redis_at(URL).id}"
SPEC: dict[str, Any] = {
    "model": {"source": "hf://acme/small"},
    "prefill": {"replicas": 2},
    "decode": {"replicas": 2},
}


def other(**changes: Any) -> dict[str, Any]:
    return {**SPEC, **changes}


NEW_MODEL = other(model={"source": "hf://acme/other"})


@pytest.fixture
def world() -> World:
    """A service that serves."""
    world = World(SPEC)
    world.settle()
    return world


def revisions(world: World) -> set[str]:
    return {worker.revision for worker in world.workers}


def the_address(world: World) -> str:
    (address,) = world.managers
    return address


def applied(world: World) -> list[tuple[str, str]]:
    return [
        (action.manifest["kind"], action.manifest["metadata"]["name"])
        for action in world.plan()
        if isinstance(action, ApplyObject)
    ]


def until(world: World, happened: Callable[[], bool], rounds: int = 60) -> None:
    for _ in range(rounds):
        if happened():
            return
        world.follow(world.plan())
        world.live()
    raise AssertionError(f"never happened: {world.plan()}")


def test_a_new_service_comes_to_serve_and_is_quiet_then(world: World) -> None:
    assert world.plan() == []
    assert world.condition("Ready")["status"] == "True"
    assert world.condition("Progressing")["reason"] == "Complete"
    assert world.service["status"]["prefill"] == {
        "desired": 2,
        "ready": 2,
        "updated": 2,
        "summary": "2/2",
    }
    assert world.service["status"]["endpoint"] == "http://chat.models.svc/v1"
    assert [event.reason for event in world.events] == ["RevisionStarted", "Serving"]


def test_what_is_needed_is_applied_before_what_needs_it() -> None:
    kinds = [kind for kind, _ in applied(World(SPEC))]

    assert kinds.index("Secret") < kinds.index("RayCluster") < kinds.index("Deployment")
    # What is to be remembered of a revision stands before the revision is made.
    assert kinds.index("ConfigMap") < kinds.index("RayCluster")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("Secret", REDIS),
        ("Service", "chat"),
        ("Deployment", "chat-router"),
        ("PodDisruptionBudget", "chat-router"),
        ("PodDisruptionBudget", "chat-decode"),
        ("NetworkPolicy", "chat-workers"),
        ("ConfigMap", "chat-revisions"),
        ("WorkerPool", "chat-decode"),
    ],
)
def test_what_was_deleted_by_hand_is_made_again(world: World, kind: str, name: str) -> None:
    world.remove(kind, name)

    assert (kind, name) in applied(world)
    world.settle()
    assert (kind, name) in world.objects
    assert len(revisions(world)) == 1


def test_a_ray_cluster_deleted_by_hand_is_made_again(world: World) -> None:
    (key,) = [key for key in world.objects if key[0] == "RayCluster"]
    world.remove(*key)

    world.live()
    world.settle()

    assert key in world.objects
    assert world.condition("Ready")["status"] == "True"


def test_a_foreign_change_of_our_field_is_mended_and_another_left(world: World) -> None:
    service = world.objects["Service", "chat"]
    service["spec"]["ports"][0]["port"] = 81
    service["metadata"]["annotations"]["theirs"] = "stays"
    assert applied(world) == [("Service", "chat")]

    service["spec"]["ports"][0]["port"] = 80

    assert applied(world) == []


def test_what_is_not_wanted_goes_if_it_is_ours_and_stays_if_it_is_not(world: World) -> None:
    ours = copy.deepcopy(world.objects["ConfigMap", "chat-revisions"])
    theirs = copy.deepcopy(ours)
    ours["metadata"] |= {"name": "ours", "uid": "ours"}
    theirs["metadata"] |= {"name": "theirs", "uid": "theirs", "ownerReferences": []}
    world.objects["ConfigMap", "ours"] = ours
    world.objects["ConfigMap", "theirs"] = theirs

    assert world.plan() == [DeleteObject(Reference("v1", "ConfigMap", "ours"), "ours")]


def test_scaling_a_worker_pool_reaches_the_manager_and_changes_nothing_else(world: World) -> None:
    world.scale("prefill", 3)

    actions = world.plan()

    (told,) = [action.told for action in actions if isinstance(action, TellPools)]
    assert [pool.replicas for pool in told.pools] == [3, 2]
    kinds = [kind for kind, _ in applied(world)]
    assert set(kinds) <= {"ConfigMap", "PodDisruptionBudget", "RayCluster"}
    world.settle()
    assert len(revisions(world)) == 1
    status = world.objects["WorkerPool", "chat-prefill"]["status"]
    assert status["readyReplicas"] == 3
    (condition,) = status["conditions"]
    assert (condition["type"], condition["status"]) == ("Ready", "True")
    assert condition["message"] == "3 of 3 prefill workers are ready"


def test_scaling_down_ends_the_pods_of_the_workers_that_left(world: World) -> None:
    world.scale("decode", 1)
    world.settle()

    (left,) = [worker.node for worker in world.workers if worker.role is Role.DECODE]
    pods = [name for kind, name in world.objects if kind == "Pod" and "decode" in name]
    assert pods == [left]


def test_no_pod_goes_while_it_has_a_worker(world: World) -> None:
    world.scale("decode", 1)

    world.settle()

    assert world.killed == []


def test_a_revision_ends_after_its_last_worker(world: World) -> None:
    world.change(NEW_MODEL)

    world.settle()

    assert world.killed == []


def test_the_replicas_of_the_spec_hold_only_when_they_change(world: World) -> None:
    world.scale("prefill", 3)
    world.change(other(slo={"ttftMs": 100}))
    world.settle()
    assert world.objects["WorkerPool", "chat-prefill"]["spec"]["replicas"] == 3

    world.change(other(prefill={"replicas": 1}))
    world.settle()

    assert world.objects["WorkerPool", "chat-prefill"]["spec"]["replicas"] == 1
    assert len([w for w in world.workers if w.role is Role.PREFILL]) == 1


@pytest.mark.parametrize(
    ("before", "after", "replicas"),
    [
        ({"minReplicas": 2, "maxReplicas": 8}, {"minReplicas": 3, "maxReplicas": 8}, 7),
        ({"minReplicas": 2, "maxReplicas": 8}, {"maxReplicas": 8}, 7),
        ({"minReplicas": 2, "maxReplicas": 8}, {}, 7),
        ({"replicas": 6}, {"minReplicas": 1, "maxReplicas": 8}, 7),
        ({"minReplicas": 2, "maxReplicas": 8}, {"minReplicas": 2, "maxReplicas": 5}, 5),
        ({"minReplicas": 2, "maxReplicas": 8}, {"minReplicas": 8, "maxReplicas": 9}, 8),
        ({"minReplicas": 2, "maxReplicas": 8}, {"replicas": 4}, 4),
    ],
)
def test_a_pool_keeps_what_it_was_scaled_to_until_the_spec_has_a_number(
    before: dict[str, int], after: dict[str, int], replicas: int
) -> None:
    world = World(other(prefill=before))
    world.settle()
    world.scale("prefill", 7)
    world.settle()

    world.change(other(prefill=after))
    world.settle()

    assert world.service["status"]["prefill"]["summary"] == f"{replicas}/{replicas}"


def test_a_pool_that_was_deleted_by_hand_is_made_again_as_it_was_scaled() -> None:
    world = World(other(prefill={"minReplicas": 2, "maxReplicas": 8}))
    world.settle()
    world.scale("prefill", 7)
    world.settle()

    world.remove("WorkerPool", "chat-prefill")
    world.settle()

    assert world.objects["WorkerPool", "chat-prefill"]["spec"]["replicas"] == 7


def test_a_number_that_comes_back_to_the_spec_holds_again() -> None:
    world = World(other(prefill={"replicas": 2}))
    world.settle()
    world.change(other(prefill={"maxReplicas": 8}))
    world.settle()
    world.scale("prefill", 3)

    world.change(other(prefill={"replicas": 2}))
    world.settle()

    assert world.objects["WorkerPool", "chat-prefill"]["spec"]["replicas"] == 2


def test_a_pool_is_not_scaled_beyond_its_bounds(world: World) -> None:
    world.change(other(prefill={"replicas": 2, "maxReplicas": 3}))
    world.scale("prefill", 9)
    world.settle()

    assert world.service["status"]["prefill"]["desired"] == 3
    assert len([w for w in world.workers if w.role is Role.PREFILL]) == 3


def test_a_change_of_counts_or_routing_is_no_rollout(world: World) -> None:
    before = revisions(world)

    world.change(
        other(
            prefill={"replicas": 1, "maxReplicas": 4},
            routing={"blockTokens": 64},
            gateway={"replicas": 2},
            rollout={"maxSurge": 1},
        )
    )
    world.settle()

    assert revisions(world) == before


def test_a_new_model_is_a_rollout(world: World) -> None:
    (before,) = revisions(world)

    world.change(NEW_MODEL)
    world.settle()

    (after,) = revisions(world)
    assert after != before
    assert world.service["status"]["revision"] == after
    clusters = [name for kind, name in world.objects if kind == "RayCluster"]
    assert clusters == [f"chat-{after}"]
    assert ("Service", f"chat-{before}-pools") not in world.objects
    assert "RevisionEnded" in [event.reason for event in world.events]


def test_the_new_revision_takes_no_requests_before_it_is_whole(world: World) -> None:
    (before,) = revisions(world)
    world.change(NEW_MODEL)

    until(world, lambda: any(w.revision != before and not w.standby for w in world.workers))

    fresh = [w for w in world.workers if w.revision != before]
    assert [w.phase for w in fresh] == [Phase.READY] * 4


def test_a_revision_that_does_not_get_ready_stops_and_the_one_before_serves(world: World) -> None:
    (before,) = revisions(world)
    world.change(NEW_MODEL)
    world.follow(world.plan())
    world.broken = {key[1].removeprefix("chat-") for key in world.objects if key[0] == "RayCluster"}
    world.broken -= {before}
    world.live()
    for _ in range(10):
        world.follow(world.plan())
        world.live(300.0)
    world.settle()

    assert world.condition("Ready")["status"] == "True"
    assert world.condition("Progressing")["reason"] == "DeadlineExceeded"
    assert world.condition("Degraded")["status"] == "True"
    assert "keeps serving" in world.condition("Degraded")["message"]
    assert world.service["status"]["revision"] == before
    assert "DeadlineExceeded" in [event.reason for event in world.events]

    world.change(SPEC)
    world.settle()

    assert revisions(world) == {before}
    assert world.condition("Degraded")["status"] == "False"
    assert len([key for key in world.objects if key[0] == "RayCluster"]) == 1


def test_applying_the_old_spec_in_the_middle_goes_back(world: World) -> None:
    before = [w.worker_id for w in world.workers]
    world.change(NEW_MODEL)
    until(world, lambda: len(world.workers) > 4)

    world.change(SPEC)
    world.settle()

    assert [w.worker_id for w in world.workers] == before


def test_a_first_revision_that_never_served_gives_its_places_back_at_once() -> None:
    world = World(SPEC)
    until(world, lambda: len(world.workers) == 4)
    (before,) = revisions(world)
    world.change(NEW_MODEL)

    actions = world.plan()

    gone = [a.reference.name for a in actions if isinstance(a, DeleteObject)]
    assert f"chat-{before}" in gone
    world.settle()
    assert before not in revisions(world)


def test_an_operator_that_has_just_started_calls_nothing_broken(world: World) -> None:
    address = the_address(world)
    world.unreachable.add(address)
    world.unasked.add(address)
    assert world.plan() == []

    world.unasked.clear()  # it has had the time to answer

    world.follow(world.plan())
    assert world.condition("Degraded")["reason"] == "ManagerUnreachable"


def test_a_first_revision_that_came_to_serve_unseen_is_not_taken_away() -> None:
    world = World(SPEC)
    world.follow(world.plan())
    for _ in range(10):  # the operator is away
        world.live()
        for manager in world.managers.values():
            for action in world.plan() if manager.told is None else ():
                if isinstance(action, TellPools):
                    manager.tell(action.told)
    world.change(NEW_MODEL)

    assert not [action for action in world.plan() if isinstance(action, DeleteObject)]


def test_an_operator_that_restarts_tells_the_managers_again_and_nothing_else(world: World) -> None:
    manager = world.managers[the_address(world)]
    assert manager.told is not None
    manager.is_forgotten = True

    assert world.plan() == [TellPools(the_address(world), manager.told)]


def test_a_bad_spec_leaves_the_last_good_one_serving(world: World) -> None:
    before = world.snapshot()[1]
    world.change(other(transfer={"connector": "mooncake"}))
    world.settle()

    assert world.condition("Ready")["reason"] == "InvalidSpec"
    assert "spec.transfer.connector" in world.condition("Ready")["message"]
    assert world.snapshot()[1] == before
    world.scale("prefill", 3)
    world.settle()
    assert len([w for w in world.workers if w.role is Role.PREFILL]) == 3

    world.change(SPEC)
    world.settle()
    assert world.condition("Ready")["status"] == "True"


def test_a_bad_spec_from_the_start_makes_nothing_but_a_status() -> None:
    world = World(other(transfer={"connector": "mooncake"}))

    assert {type(action) for action in world.plan()} == {SetStatus, RecordEvent}
    world.settle()
    assert world.condition("Ready")["reason"] == "InvalidSpec"


def test_the_time_of_a_condition_changes_with_its_status_only(world: World) -> None:
    since = world.condition("Ready")["lastTransitionTime"]
    world.scale("decode", 4)
    world.settle()
    assert world.condition("Ready")["lastTransitionTime"] == since

    for manager in world.managers.values():
        manager.workers.clear()
    world.follow(world.plan())

    assert world.condition("Ready")["status"] == "False"
    assert world.condition("Ready")["lastTransitionTime"] != since


def test_a_deleted_service_drains_before_its_ray_cluster_goes(world: World) -> None:
    world.delete()
    seen_with_workers = False
    while not world.is_gone:
        actions = world.plan()
        for action in actions:
            if isinstance(action, DeleteObject):
                assert action.reference.kind == "RayCluster"
                assert not world.workers
            if isinstance(action, RemoveFinalizer):
                assert not any(kind == "RayCluster" for kind, _ in world.objects)
        seen_with_workers |= bool(world.workers)
        world.follow(actions)
        world.live()
    assert seen_with_workers


def test_a_deletion_says_what_it_waits_for(world: World) -> None:
    world.delete()
    world.follow(world.plan())
    (ray,) = [child for (kind, _), child in world.objects.items() if kind == "RayCluster"]
    name = ray["metadata"]["name"]
    while_working = world.condition("Ready")["message"]
    ray["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
    ray["metadata"]["finalizers"] = ["ray.io/gcs-ft-redis-cleanup-finalizer"]
    world.follow(world.plan())
    once_deleted = world.condition("Ready")["message"]

    assert f"workers finish what they have in {name}" in while_working
    assert "workers finish" not in once_deleted
    assert f"{name} is deleted" in once_deleted
    assert "ray.io/gcs-ft-redis-cleanup-finalizer" in once_deleted


def test_a_deletion_does_not_wait_for_ever(world: World) -> None:
    world.unreachable.add(the_address(world))
    world.delete()
    world.follow(world.plan())
    assert any(kind == "RayCluster" for kind, _ in world.objects)
    (look,) = [action for action in world.plan() if isinstance(action, LookAgain)]

    world.now += look.after_seconds
    until(world, lambda: world.is_gone)


def test_a_memory_that_cannot_be_read_does_not_hold_a_deletion_up(world: World) -> None:
    world.objects["ConfigMap", "chat-revisions"]["data"] = {
        "memory.json": '{"good_spec": {"model": 7}}'
    }
    world.delete()

    until(world, lambda: world.is_gone)


def test_a_deletion_in_the_middle_of_a_rollout_ends_both_revisions(world: World) -> None:
    world.change(NEW_MODEL)
    until(world, lambda: len(revisions(world)) == 2)

    world.delete()

    until(world, lambda: world.is_gone)
    assert not any(kind == "RayCluster" for kind, _ in world.objects)


def test_without_kuberay_the_condition_says_so() -> None:
    world = World(SPEC)
    world.apis = frozenset()
    world.settle()

    assert world.condition("Ready")["reason"] == "RayMissing"
    assert "KubeRay" in world.condition("Ready")["message"]


def test_on_an_existing_ray_a_revision_has_a_manager_and_no_cluster() -> None:
    world = World(other(ray={"address": "ray.example:6379"}))
    world.apis = frozenset()
    world.settle()
    (before,) = revisions(world)
    assert ("Deployment", f"chat-{before}-pools") in world.objects
    assert world.condition("Ready")["status"] == "True"

    world.change({**NEW_MODEL, "ray": {"address": "ray.example:6379"}})
    world.settle()

    (after,) = revisions(world)
    assert ("Deployment", f"chat-{before}-pools") not in world.objects
    assert ("Deployment", f"chat-{after}-pools") in world.objects


def test_a_revision_of_an_unreachable_manager_goes_at_its_limit(world: World) -> None:
    old = the_address(world)
    world.change(NEW_MODEL)
    world.unreachable.add(old)
    for _ in range(30):
        world.follow(world.plan())
        world.live(60.0)

    world.settle()

    assert len([key for key in world.objects if key[0] == "RayCluster"]) == 1
    assert old not in world.managers


def test_a_manager_is_never_told_of_other_engines_in_a_revision(world: World) -> None:
    """A later version of the operator may make other arguments of the same spec."""
    config_map = world.objects["ConfigMap", "chat-revisions"]
    text = config_map["data"]["memory.json"]
    assert '"engine_args":[]' in text
    config_map["data"]["memory.json"] = text.replace(
        '"engine_args":[]', '"engine_args":["--of-an-older-version"]'
    )

    (tell,) = [action for action in world.plan() if isinstance(action, TellPools)]

    assert {pool.engine.engine_args for pool in tell.told.pools} == {("--of-an-older-version",)}


def test_a_lost_memory_takes_no_revision_that_serves(world: World) -> None:
    (before,) = revisions(world)
    world.change(NEW_MODEL)
    until(world, lambda: len(revisions(world)) == 2)
    world.remove("ConfigMap", "chat-revisions")

    kept = [a for a in world.plan() if isinstance(a, DeleteObject)]

    assert ("RayCluster", f"chat-{before}") not in [
        (a.reference.kind, a.reference.name) for a in kept
    ]
    world.settle()
    assert len(revisions(world)) == 1
