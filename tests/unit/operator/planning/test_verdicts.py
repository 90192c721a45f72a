"""What is said of a service."""

from dataclasses import replace
from typing import Any

import pytest

from twofold_operator.planning import plan
from twofold_operator.planning.actions import ApplyObject, LookAgain
from twofold_operator.planning.conditions import timestamp
from twofold_operator.planning.observed import Phase
from twofold_operator.planning.rollout import ROLES
from twofold_operator.planning.testing import World

SPEC: dict[str, Any] = {
    "model": {"source": "hf://acme/small"},
    "prefill": {"replicas": 1},
    "decode": {"replicas": 1},
}


def serving() -> World:
    world = World(SPEC)
    world.settle()
    return world


def reasons(world: World) -> dict[str, tuple[str, str]]:
    conditions = world.service["status"]["conditions"]
    return {each["type"]: (each["status"], each["reason"]) for each in conditions}


def break_decode(world: World, message: str) -> None:
    (manager,) = world.managers.values()
    manager.workers = [
        replace(worker, phase=Phase.DEAD, message=message) if worker.role == "decode" else worker
        for worker in manager.workers
    ]
    world.follow(world.plan())


def warn(world: World, warning: str) -> None:
    (manager,) = world.managers.values()
    manager.workers = [
        replace(worker, warning=warning if worker.role == "decode" else "")
        for worker in manager.workers
    ]
    world.follow(world.plan())


def test_all_is_said_of_a_service_that_starts() -> None:
    world = World(SPEC)
    world.follow(world.plan())

    assert reasons(world) == {
        "Ready": ("False", "PrefillNotReady"),
        "Progressing": ("True", "Starting"),
        "Degraded": ("False", "AsExpected"),
        "PrefillReady": ("False", "WorkersMissing"),
        "DecodeReady": ("False", "WorkersMissing"),
        "RouterReady": ("False", "RoutersUnavailable"),
    }


def test_a_service_whose_pods_do_not_start_says_where_to_look() -> None:
    world = World(SPEC)
    world.follow(world.plan())

    message = world.condition("PrefillReady")["message"]

    assert message.startswith("0 of 1 prefill workers are ready")
    assert "kubectl describe pods -l serving.twofold.dev/revision=" in message


def test_all_is_said_of_a_service_that_serves() -> None:
    assert reasons(serving()) == {
        "Ready": ("True", "Serving"),
        "Progressing": ("False", "Complete"),
        "Degraded": ("False", "AsExpected"),
        "PrefillReady": ("True", "WorkersReady"),
        "DecodeReady": ("True", "WorkersReady"),
        "RouterReady": ("True", "RoutersAvailable"),
    }


def test_why_a_worker_died_is_said_where_a_person_looks() -> None:
    world = serving()

    break_decode(world, "CUDA out of memory")

    assert reasons(world)["Ready"] == ("False", "DecodeNotReady")
    assert reasons(world)["Degraded"] == ("True", "WorkersDead")
    for kind in ("Ready", "Degraded", "DecodeReady"):
        assert "CUDA out of memory" in world.condition(kind)["message"]


def test_losing_and_regaining_service_are_events() -> None:
    world = serving()
    world.events.clear()

    break_decode(world, "gone")
    (manager,) = world.managers.values()
    manager.workers = [worker for worker in manager.workers if worker.phase is not Phase.DEAD]
    world.settle()

    assert [(event.type, event.reason) for event in world.events] == [
        ("Warning", "DecodeNotReady"),
        ("Warning", "WorkersDead"),
        ("Normal", "AsExpected"),
        ("Normal", "Serving"),
    ]
    assert world.events[2].message == "WorkersDead is over: nothing is wrong"


def test_a_silent_manager_is_a_degradation() -> None:
    world = serving()
    world.unreachable = set(world.managers)
    world.follow(world.plan())

    assert reasons(world)["Degraded"] == ("True", "ManagerUnreachable")


EXISTING = {**SPEC, "ray": {"address": "ray.example:6379"}}


def fall_silent(world: World, condition: str | None = None) -> None:
    """Have the manager answer no more; what it runs on says *condition* of its pod, since now."""
    world.unreachable = set(world.managers)
    for key, child in world.objects.items():
        if condition and (key[0] == "RayCluster" or key[1].endswith("-pools")):
            lost = {"type": condition, "status": "False", "reason": "Lost", "message": ""}
            since = {"lastTransitionTime": timestamp(world.now)}
            child["status"] = {"conditions": [{**lost, **since}]}
    world.follow(world.plan())


@pytest.mark.parametrize(
    ("spec", "condition"), [(SPEC, None), (EXISTING, None), (EXISTING, "Available")]
)
def test_workers_that_outlive_their_manager_serve(
    spec: dict[str, Any], condition: str | None
) -> None:
    world = World(spec)
    world.settle()

    fall_silent(world, condition)

    assert reasons(world) == {
        "Ready": ("True", "Serving"),
        "Progressing": ("Unknown", "ManagerUnreachable"),
        "Degraded": ("True", "ManagerUnreachable"),
        "PrefillReady": ("Unknown", "ManagerUnreachable"),
        "DecodeReady": ("Unknown", "ManagerUnreachable"),
        "RouterReady": ("True", "RoutersAvailable"),
    }
    assert "does not answer" in world.condition("Ready")["message"]
    world.unreachable = set()
    world.settle()
    assert reasons(world)["PrefillReady"] == ("True", "WorkersReady")


def counts(world: World) -> list[Any]:
    """Return ready, updated and the summary of both roles, and the same of the WorkerPools."""
    status = world.service["status"]
    pools = [world.objects["WorkerPool", f"chat-{role}"]["status"] for role in ROLES]
    return [
        *([status[role][name] for name in ("ready", "updated", "summary")] for role in ROLES),
        *([pool["readyReplicas"], pool["summary"]] for pool in pools),
    ]


@pytest.mark.parametrize("engine", ["vllm", "no such"])
def test_a_silent_managers_workers_count_as_they_were_seen_last(engine: str) -> None:
    world = World({**SPEC, "decode": {"replicas": 2}})
    world.settle()
    (manager,) = world.managers.values()
    manager.workers.pop()
    world.follow(world.plan())
    world.change({**world.service["spec"], "engine": engine})

    for _ in range(2):
        fall_silent(world)

        assert counts(world) == [[1, 1, "1/1"], [1, 1, "1/2"], [1, "1/1"], [1, "1/2"]]
    message = world.condition("DecodeReady")["message"]
    assert message.startswith("1 of 2 decode workers were ready when last seen")


def test_workers_count_no_more_once_they_have_ended() -> None:
    world = World(EXISTING)
    world.settle()
    fall_silent(world, "Available")

    world.now += 601
    world.follow(world.plan())

    assert counts(world) == [[0, 0, "0/1"]] * 2 + [[0, "0/1"]] * 2


def test_each_revision_counts_as_it_was_seen_last() -> None:
    world = serving()
    (before,) = world.managers
    world.change({**SPEC, "model": {"source": "hf://acme/other"}})
    for _ in range(7):
        world.follow(world.plan())
        world.live()
    assert [worker.standby for worker in world.managers[before].workers] == [True, True]
    world.follow(world.plan())
    world.unreachable = {before}
    world.change(SPEC)

    for _ in range(2):
        world.follow(world.plan())

        assert [status[:2] for status in counts(world)[:2]] == [[1, 0]] * 2


@pytest.mark.parametrize(("told", "limit"), [({}, 600), ({"orphanSeconds": 900}, 900)])
def test_workers_outlive_their_manager_for_as_long_as_they_are_told(
    told: dict[str, int], limit: int
) -> None:
    world = World({**EXISTING, "ray": {**EXISTING["ray"], **told}})
    world.settle()
    fall_silent(world, "Available")

    (look,) = [action for action in world.plan() if isinstance(action, LookAgain)]
    world.now += look.after_seconds
    world.follow(world.plan())

    assert look.after_seconds == limit
    assert reasons(world)["Ready"] == ("False", "PrefillNotReady")
    assert reasons(world)["Degraded"] == ("True", "ManagerUnreachable")


def test_workers_end_with_the_head_of_their_ray() -> None:
    world = serving()

    fall_silent(world, "HeadPodReady")

    assert reasons(world)["Ready"] == ("False", "PrefillNotReady")


RUNNING_SECONDS = 3600
"""The head's containers ran for so long before one of them ended."""


def add_head(world: World, *ended: str) -> dict[str, Any]:
    """Have the head's pod there, of which the containers *ended* have begun again just now."""
    (cluster,) = (child for (kind, _), child in world.objects.items() if kind == "RayCluster")
    template = cluster["spec"]["headGroupSpec"]["template"]
    metadata = {"name": "the-head", "namespace": "models", "uid": "head"}
    labels = template["metadata"]["labels"]
    statuses = []
    for name in (container["name"] for container in template["spec"]["containers"]):
        began = timestamp(world.now - (0 if name in ended else RUNNING_SECONDS))
        state = {"running": {"startedAt": began}}
        statuses.append({"name": name, "state": state})
    since = {"lastTransitionTime": timestamp(world.now)}
    conditions = [
        {"type": "Ready", "status": "False", **since},
        {"type": "ContainersReady", "status": "False" if ended else "True", **since},
    ]
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**metadata, "labels": labels},
        "status": {"conditions": conditions, "containerStatuses": statuses},
    }
    world.objects["Pod", "the-head"] = pod
    return pod


@pytest.mark.parametrize("again", [True, False])
def test_a_manager_that_ends_alone_in_the_heads_pod_is_outlived(again: bool) -> None:
    world = serving()
    head = add_head(world, "pools")
    if not again:
        statuses = {each["name"]: each for each in head["status"]["containerStatuses"]}
        statuses["pools"]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}

    fall_silent(world, "HeadPodReady")

    assert reasons(world)["Ready"] == ("True", "Serving")
    assert reasons(world)["PrefillReady"] == ("Unknown", "ManagerUnreachable")
    (look,) = [action for action in world.plan() if isinstance(action, LookAgain)]
    assert look.after_seconds == 600
    world.now += look.after_seconds
    world.follow(world.plan())
    assert reasons(world)["Ready"] == ("False", "PrefillNotReady")


@pytest.mark.parametrize("is_back", [True, False])
def test_workers_end_with_the_heads_ray_container_also_when_it_is_back(is_back: bool) -> None:
    world = serving()
    head = add_head(world, "ray-head", "pools")
    if not is_back:
        statuses = {each["name"]: each for each in head["status"]["containerStatuses"]}
        statuses["ray-head"]["state"] = {"terminated": {"exitCode": 1}}

    fall_silent(world, "HeadPodReady")

    assert reasons(world)["Ready"] == ("False", "PrefillNotReady")


def test_workers_end_with_the_node_of_their_rays_head() -> None:
    world = serving()
    add_head(world)  # a lost node's kubelet says nothing more of the containers

    fall_silent(world, "HeadPodReady")

    assert reasons(world)["Ready"] == ("False", "PrefillNotReady")


def test_a_head_that_is_told_to_end_goes_on_for_nobody() -> None:
    world = serving()
    head = add_head(world, "pools")
    head["metadata"]["deletionTimestamp"] = timestamp(world.now + 30)

    fall_silent(world, "HeadPodReady")

    assert reasons(world)["Ready"] == ("False", "PrefillNotReady")


def test_a_silent_manager_that_never_had_workers_is_not_trusted() -> None:
    world = World(SPEC)
    world.follow(world.plan())
    world.live()

    fall_silent(world)

    assert reasons(world)["Ready"] == ("False", "PrefillNotReady")
    assert reasons(world)["PrefillReady"] == ("False", "WorkersMissing")


def test_a_silent_manager_does_not_make_routers_ready() -> None:
    world = serving()
    world.objects["Deployment", "chat-router"]["status"] = {}

    fall_silent(world)

    assert reasons(world)["Ready"] == ("False", "RouterNotReady")


def test_a_service_without_routers_is_not_ready() -> None:
    world = serving()
    world.objects["Deployment", "chat-router"]["status"] = {}
    world.follow(world.plan())

    assert reasons(world)["Ready"] == ("False", "RouterNotReady")
    assert "kubectl describe deployment chat-router" in world.condition("Ready")["message"]


KEYS = {**SPEC, "gateway": {"keysSecret": {"name": "keys", "key": "keys.toml"}}}


def roll_routers_out(world: World, reason: str = "ReplicaSetUpdated") -> None:
    """Have Kubernetes make a router of the newest making that does not get ready."""
    deployment = world.objects["Deployment", "chat-router"]
    overdue = reason == "ProgressDeadlineExceeded"
    condition = {
        "type": "Progressing",
        "status": "False" if overdue else "True",
        "reason": reason,
        "message": "ReplicaSet chat-router-2 has timed out progressing." if overdue else "",
    }
    deployment["status"] = {
        "observedGeneration": deployment["metadata"]["generation"],
        "replicas": 2,
        "updatedReplicas": 1,
        "availableReplicas": 1,
        "conditions": [condition],
    }
    world.follow(world.plan())


def test_a_change_of_routers_is_progress_until_all_are_new() -> None:
    world = serving()
    world.change(KEYS)
    for _ in range(2):  # as it is told, and before Kubernetes has seen it
        world.follow(world.plan())
        assert reasons(world)["Progressing"] == ("True", "RouterRollingOut")

    roll_routers_out(world)
    assert reasons(world)["Progressing"] == ("True", "RouterRollingOut")
    assert reasons(world)["Degraded"] == ("False", "AsExpected")
    world.settle()

    assert reasons(world)["Progressing"] == ("False", "Complete")


def test_a_change_of_how_many_routers_there_are_is_progress() -> None:
    world = serving()
    world.change({**SPEC, "gateway": {"replicas": 2}})
    world.follow(world.plan())

    assert reasons(world)["Progressing"] == ("True", "RouterRollingOut")


def test_routers_that_somebody_else_writes_into_are_complete() -> None:
    world = serving()
    pod = world.objects["Deployment", "chat-router"]["spec"]["template"]["spec"]
    pod["containers"][0]["image"] = "mirror.example/twofold-router"
    actions = world.plan()

    assert any(isinstance(action, ApplyObject) for action in actions)
    world.follow(actions)
    assert reasons(world)["Progressing"] == ("False", "Complete")


def test_a_change_of_stuck_routers_is_not_stuck_before_it_is_tried() -> None:
    world = serving()
    world.change(KEYS)
    world.follow(world.plan())
    roll_routers_out(world, "ProgressDeadlineExceeded")
    world.change(SPEC)
    world.follow(world.plan())

    assert reasons(world)["Progressing"] == ("True", "RouterRollingOut")
    assert reasons(world)["Degraded"] == ("False", "AsExpected")


def test_routers_that_do_not_get_ready_are_a_degradation_and_those_before_serve() -> None:
    world = serving()
    world.change(KEYS)
    world.follow(world.plan())

    roll_routers_out(world, "ProgressDeadlineExceeded")

    assert reasons(world)["Ready"] == ("True", "Serving")
    assert reasons(world)["Progressing"] == ("False", "RoutersStuck")
    assert reasons(world)["Degraded"] == ("True", "RoutersStuck")
    message = world.condition("Degraded")["message"]
    assert "ReplicaSet chat-router-2 has timed out progressing" in message
    assert "kubectl describe pods -l app.kubernetes.io/instance=chat" in message
    assert "RoutersStuck" in [event.reason for event in world.events]


def test_routers_that_wait_for_workers_are_not_stuck() -> None:
    world = serving()
    world.change({**KEYS, "model": {"source": "hf://acme/slow"}})
    world.follow(world.plan())

    roll_routers_out(world, "ProgressDeadlineExceeded")

    assert reasons(world)["Progressing"] == ("True", "RollingOut")
    assert reasons(world)["Degraded"] == ("False", "AsExpected")


def test_a_service_without_routers_says_that_their_time_is_over() -> None:
    world = serving()
    roll_routers_out(world, "ProgressDeadlineExceeded")
    world.objects["Deployment", "chat-router"]["status"]["availableReplicas"] = 0
    world.follow(world.plan())

    assert reasons(world)["Ready"] == ("False", "RouterNotReady")
    assert "ProgressDeadlineExceeded" in world.condition("Ready")["message"]


def test_a_service_scaled_to_zero_says_so() -> None:
    world = serving()
    world.scale("prefill", 0)
    world.scale("decode", 0)
    world.settle()

    assert reasons(world)["Ready"] == ("False", "ScaledToZero")
    assert reasons(world)["DecodeReady"] == ("True", "ScaledToZero")


def test_prefill_workers_alone_serve_nobody() -> None:
    world = serving()
    world.scale("decode", 0)
    world.settle()

    assert reasons(world)["Ready"] == ("False", "ScaledToZero")
    assert "scale WorkerPool chat-decode" in world.condition("Ready")["message"]
    assert reasons(world)["PrefillReady"] == ("True", "WorkersReady")


def test_a_scale_up_without_places_is_overdue_after_the_deadline_only() -> None:
    world = serving()
    world.broken = {worker.revision for worker in world.workers}
    world.scale("decode", 3)
    world.follow(world.plan())
    assert reasons(world)["Progressing"] == ("True", "Scaling")

    world.live(1801.0)
    world.follow(world.plan())

    assert reasons(world)["Progressing"] == ("False", "DeadlineExceeded")
    assert reasons(world)["Ready"] == ("True", "Serving")


def test_what_a_worker_warns_of_is_said_while_it_serves() -> None:
    world = serving()

    warn(world, "blocks would not cross the network by RDMA: no port")

    assert reasons(world)["Ready"] == ("True", "Serving")
    assert reasons(world)["Degraded"] == ("True", "WorkersWarn")
    assert "would not cross the network by RDMA" in world.condition("Degraded")["message"]


def test_a_warning_that_is_over_is_said_no_more() -> None:
    world = serving()
    warn(world, "blocks would not cross the network by RDMA: no port")

    warn(world, "")

    assert reasons(world)["Degraded"] == ("False", "AsExpected")


def lose(world: World, role: str) -> None:
    (manager,) = world.managers.values()
    manager.workers = [worker for worker in manager.workers if worker.role != role]
    world.follow(world.plan())


def test_a_service_that_lost_its_prefill_workers_serves_and_says_how() -> None:
    world = serving()

    lose(world, "prefill")

    assert reasons(world)["Ready"] == ("True", "Serving")
    assert "by decode workers alone" in world.condition("Ready")["message"]
    assert reasons(world)["Degraded"] == ("True", "PrefillMissing")
    assert reasons(world)["PrefillReady"] == ("False", "WorkersMissing")


def test_a_service_that_fails_without_prefill_workers_is_not_ready_then() -> None:
    world = World({**SPEC, "disaggregation": {"onNoPrefill": "fail"}})
    world.settle()

    lose(world, "prefill")

    assert reasons(world)["Ready"] == ("False", "PrefillNotReady")
    assert reasons(world)["Degraded"] == ("False", "AsExpected")


def test_a_service_without_any_worker_is_not_ready() -> None:
    world = serving()
    world.scale("decode", 0)
    world.settle()

    lose(world, "prefill")

    assert reasons(world)["Ready"] == ("False", "PrefillNotReady")


def test_a_service_that_wants_no_prefill_workers_is_ready_without() -> None:
    world = World({**SPEC, "prefill": {"replicas": 0}})
    world.settle()

    assert reasons(world)["Ready"] == ("True", "Serving")
    assert reasons(world)["Degraded"] == ("False", "AsExpected")
    assert reasons(world)["PrefillReady"] == ("True", "ScaledToZero")


def test_what_the_server_refuses_is_said_with_its_words() -> None:
    world = serving()
    observed = replace(world.observed(), refused=("chat-router: 422 spec.x: Invalid value",))
    world.follow(plan(observed, world.settings, world.now))

    assert reasons(world)["Ready"] == ("False", "ApplyRefused")
    assert reasons(world)["Degraded"] == ("True", "ApplyRefused")
    assert "422 spec.x: Invalid value" in world.condition("Ready")["message"]


def test_why_routers_have_no_pods_is_said() -> None:
    world = serving()
    failure = {
        "type": "ReplicaFailure",
        "status": "True",
        "reason": "FailedCreate",
        "message": "pods is forbidden: exceeded quota",
    }
    fine = {"type": "Available", "status": "True", "reason": "", "message": "has been"}
    world.objects["Deployment", "chat-router"]["status"] = {"conditions": [fine, failure]}
    world.follow(world.plan())

    message = world.condition("Ready")["message"]
    assert "ReplicaFailure is True (FailedCreate): pods is forbidden: exceeded quota" in message
    assert "has been" not in message


def test_why_a_ray_cluster_has_no_head_is_said() -> None:
    world = World(SPEC)
    world.follow(world.plan())
    (cluster,) = (child for (kind, _), child in world.objects.items() if kind == "RayCluster")
    said = {"reason": "ContainersNotReady", "message": "ImagePullBackOff"}
    cluster["status"] = {"conditions": [{"type": "HeadPodReady", "status": "False", **said}]}
    world.follow(world.plan())

    for kind in ("Ready", "PrefillReady"):
        assert "HeadPodReady is False (ContainersNotReady)" in world.condition(kind)["message"]
        assert "ImagePullBackOff" in world.condition(kind)["message"]
