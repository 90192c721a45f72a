"""The operator as a process before a real API server, with the chart's rights: what people do."""

import json
from functools import partial
from typing import Any

import pytest

from twofold_operator.planning.following import secret_of

from .houses import House
from .kubectl import Manifest
from .services import adapter, sim, with_lora

OWNER = "app.kubernetes.io/instance=sim"


@pytest.fixture(params=["undisturbed", "restarted"])
def disturbed(request: pytest.FixtureRequest, house: House) -> House:
    """A house whose operator is, or is not, killed in the middle of whatever happens."""
    house.restarts = request.param == "restarted"
    return house


def test_a_service_gets_ready_and_says_so(disturbed: House) -> None:
    house = disturbed
    house.apply(sim())
    house.disturb()
    ready = house.wait_for_condition("Ready", "True")

    status = ready["status"]
    assert status["observedGeneration"] == ready["metadata"]["generation"]
    assert status["endpoint"] == f"http://sim.{house.kubectl.namespace}.svc/v1"
    assert ready["metadata"]["finalizers"] == ["serving.twofold.dev/operator"]
    row = house.kubectl.run("get", "llm", "sim").splitlines()[1].split()
    assert {"sim", "True", "1/1", status["revision"]} <= set(row)
    owned = {
        kind: house.kubectl.list(kind, OWNER)
        for kind in ("deployment", "service", "secret", "configmap", "pdb", "networkpolicy", "wp")
    }
    for kind, children in owned.items():
        assert children, kind
        for child in children:
            (owner,) = child["metadata"]["ownerReferences"]
            assert owner["uid"] == ready["metadata"]["uid"], child


def test_scaling_a_pool_restarts_nothing(disturbed: House) -> None:
    house = disturbed
    before = house.make_ready(sim())
    (cluster,) = house.kubectl.list("raycluster", OWNER)
    (router,) = house.kubectl.list("deployment", OWNER)
    house.kubectl.run("scale", "workerpool/sim-prefill", "--replicas=3")
    house.disturb()
    house.wait_for_role("prefill", desired=3, ready=3)
    house.kubectl.run("scale", "workerpool/sim-prefill", "--replicas=1")
    house.disturb()
    after = house.wait_for_role("prefill", desired=1, ready=1)

    assert after["status"]["revision"] == before["status"]["revision"]
    (cluster_after,) = house.kubectl.list("raycluster", OWNER)
    assert cluster_after["metadata"]["uid"] == cluster["metadata"]["uid"]
    (router_after,) = house.kubectl.list("deployment", OWNER)
    assert router_after["metadata"]["generation"] == router["metadata"]["generation"]


def test_a_pod_that_does_not_end_is_replaced_and_takes_no_other_along(local_house: House) -> None:
    house = local_house
    kubectl, decode = house.kubectl, f"{OWNER},app.kubernetes.io/component=decode"

    def pods() -> dict[str, bool]:
        """Return the names of the pods, and whether they end."""
        found = (pod["metadata"] for pod in kubectl.list("pod", decode))
        return {pod["name"]: "deletionTimestamp" in pod for pod in found}

    house.make_ready(sim(decode={"replicas": 3}))
    before = set(pods())
    house.lose(before)
    kubectl.run("scale", "workerpool/sim-decode", "--replicas=2")
    house.wait_for_role("decode", desired=2, ready=2)
    kubectl.wait_for("a pod ends", lambda: any(pods().values()))
    kubectl.run("scale", "workerpool/sim-decode", "--replicas=4")
    house.wait_for_role("decode", desired=4, ready=4)

    ending = {name for name, is_ending in pods().items() if is_ending}
    assert len(ending) == 1
    assert ending < before < set(pods())
    assert len(pods()) == 5
    house.lose(set())
    kubectl.wait_for("it has gone", lambda: not ending & set(pods()))


def test_new_arguments_are_rolled_out_and_back(disturbed: House) -> None:
    house = disturbed
    first = house.make_ready(sim())["status"]["revision"]
    house.apply(sim(maxModelLen=4096))
    house.disturb()
    second = house.wait_for_rollout(other_than=first)
    house.apply(sim())
    house.disturb()
    third = house.wait_for_rollout(other_than=second)

    assert third == first
    assert "DeadlineExceeded" not in house.reasons()


@pytest.mark.parametrize(
    ("part", "change", "argument"),
    [
        ("slo", {"ttftMs": 250}, "--class=default:ttft=0.25,ttft-per-token=0,late=serve"),
        ("routing", {"maxQueued": 7}, "--max-queued=7"),
        ("gateway", {"drainSeconds": 9}, "--drain-timeout=9"),
    ],
    ids=["slo", "routing", "gateway"],
)
def test_a_change_of_the_routers_is_no_rollout(
    house: House, part: str, change: Manifest, argument: str
) -> None:
    house.restarts = True
    service = sim()
    first = house.make_ready(service)["status"]["revision"]
    before = house.only_cluster()
    service["spec"][part] = service["spec"].get(part, {}) | change
    house.apply(service)
    house.disturb()
    house.kubectl.wait_for(
        argument, lambda: argument in _arguments(house.kubectl.get("deployment", "sim-router"))
    )
    after = house.wait_for_condition("Progressing", "False", "Complete")

    assert after["status"]["revision"] == first
    cluster = house.only_cluster()
    assert before is not None
    assert cluster is not None
    assert cluster["metadata"]["uid"] == before["metadata"]["uid"]


def test_a_revision_that_does_not_start_leaves_the_one_before(house: House) -> None:
    house.restarts = True
    good = house.make_ready(sim())["status"]["revision"]
    house.break_all_but(good)
    nowhere = {"worker": "nowhere.invalid/no-such-image:1"}
    house.apply(sim(rollout={"readyDeadlineSeconds": 30}, images=nowhere))
    house.disturb()
    failed = house.wait_for_condition("Progressing", "False", "DeadlineExceeded")

    assert house.condition(failed, "Ready")["status"] == "True"
    assert house.condition(failed, "Degraded")["status"] == "True"
    house.apply(sim())
    house.disturb()
    house.wait_for_condition("Progressing", "False", "Complete")
    clusters = house.kubectl.wait_for("one cluster is left", house.only_cluster)
    assert good in clusters["metadata"]["name"]


def test_a_deleted_service_leaves_nothing(disturbed: House) -> None:
    house = disturbed
    house.make_ready(sim())
    house.kubectl.run("delete", "llm", "sim", "--wait=false")
    house.disturb()
    house.kubectl.wait_for("the service is gone", lambda: not house.kubectl.get("llm", "sim"))

    for kind in ("raycluster", "deployment", "service", "secret", "configmap", "wp", "pod"):
        house.kubectl.wait_for(f"no {kind} is left", partial(house.has_none, kind))


def test_a_bad_spec_is_named_and_the_last_good_one_served(disturbed: House) -> None:
    house = disturbed
    good = house.make_ready(sim())["status"]["revision"]
    house.apply(sim(sim={"args": ["--port=1"]}))
    house.disturb()
    told = house.wait_for_condition("Ready", "False", "InvalidSpec")

    assert "spec.sim.args" in house.condition(told, "Ready")["message"]
    (cluster,) = house.kubectl.list("raycluster", OWNER)
    assert good in cluster["metadata"]["name"]
    house.apply(sim())
    house.wait_for_condition("Ready", "True")


@pytest.mark.parametrize(
    ("pod", "field"),
    [
        (
            {"containers": [{"name": "router", "livenessProbe": {"periodSeconds": -1}}]},
            "periodSeconds",
        ),
        ({"nodeSelektor": {"disk": "ssd"}}, "nodeSelektor"),
    ],
)
def test_what_the_server_refuses_is_said_and_holds_up_nothing_else(
    house: House, pod: dict[str, Any], field: str
) -> None:
    house.make_ready(sim())
    house.apply(sim(gateway={"podTemplate": {"spec": pod}}))
    told = house.wait_for_condition("Ready", "False", "ApplyRefused")
    house.kubectl.run("scale", "workerpool/sim-prefill", "--replicas=2")
    house.wait_for_role("prefill", desired=2, ready=2)

    assert field in house.condition(told, "Ready")["message"]
    house.apply(sim())
    house.wait_for_condition("Ready", "True")


def test_what_is_another_s_is_left_and_said(house: House) -> None:
    kubectl = house.kubectl
    kubectl.run("create", "service", "clusterip", "sim", "--tcp=80:8000")
    before = kubectl.get("service", "sim")
    house.apply(sim())
    told = house.wait_for_condition("Ready", "False", "ApplyRefused")

    assert "Service sim exists and is not ours" in house.condition(told, "Ready")["message"]
    kubectl.wait_for("all else is made", lambda: kubectl.get("deployment", "sim-router"))
    assert kubectl.get("service", "sim") == before
    kubectl.run("delete", "service", "sim")
    house.wait_for_condition("Ready", "True")


def test_what_others_change_or_delete_is_mended(disturbed: House) -> None:
    house = disturbed
    house.make_ready(sim())
    kubectl = house.kubectl
    before = kubectl.get("deployment", "sim-router")
    assert before is not None
    arguments = _arguments(before)
    foreign = [
        {"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": ["--foreign"]},
        {"op": "add", "path": "/metadata/annotations/example.org~1note", "value": "mine"},
    ]
    kubectl.run("patch", "deployment", "sim-router", "--type=json", "-p", json.dumps(foreign))
    for kind, name in (("service", "sim"), ("networkpolicy", ""), ("wp", "sim-decode")):
        kubectl.run("delete", kind, *([name] if name else [f"--selector={OWNER}"]))
    house.disturb()

    kubectl.wait_for("the Service is back", lambda: kubectl.get("service", "sim"))
    kubectl.wait_for("the policy is back", lambda: kubectl.list("networkpolicy", OWNER))
    kubectl.wait_for("the pool is back", lambda: kubectl.get("wp", "sim-decode"))
    mended = kubectl.wait_for(
        "the arguments are back",
        lambda: _with_arguments(kubectl.get("deployment", "sim-router"), arguments),
    )
    assert mended["metadata"]["annotations"]["example.org/note"] == "mine"


def test_another_redis_reaches_all_pods_by_a_rollout(house: House) -> None:
    house.need_stand_ins("it names a Redis that there is not")
    first = house.make_ready(sim())["status"]["revision"]
    (before,) = house.kubectl.list("secret", OWNER)
    house.move_redis("redis://:another@redis.example:6379/0")
    house.wait_for_rollout(other_than=first)

    def only_secret() -> str:
        found = [each["metadata"]["name"] for each in house.kubectl.list("secret", OWNER)]
        return str(found[0]) if len(found) == 1 else ""

    secret = house.kubectl.wait_for("one Secret is left", only_secret)
    assert secret != before["metadata"]["name"]
    (router,) = house.kubectl.list("deployment", OWNER)
    cluster = house.only_cluster()
    assert cluster is not None
    head = cluster["spec"]["headGroupSpec"]["template"]
    assert {secret_of(each["spec"]) for each in (router["spec"]["template"], head)} == {secret}


def test_only_one_of_two_operators_acts(house: House) -> None:
    house.need_stand_ins("it asks two processes, and here they are pods")
    house.make_ready(sim())
    second = house.add_operator("second")
    assert second.metric("twofold_operator_leader") == 0.0
    assert house.operator.metric("twofold_operator_leader") == 1.0

    house.operator.kill()
    house.kubectl.wait_for(
        "the second one leads", lambda: second.metric("twofold_operator_leader") == 1.0
    )
    house.kubectl.run("delete", "service", "sim")
    house.kubectl.wait_for("the second one mends", lambda: house.kubectl.get("service", "sim"))


def test_an_adapter_is_loaded_on_every_worker_and_unloaded(house: House) -> None:
    house.need_stand_ins("the adapter is made up, and no real engine loads it")
    house.make_ready(with_lora())
    house.apply(adapter())
    loaded = house.kubectl.wait_for(
        "both workers have it",
        lambda: _with_status(house.kubectl.get("lora", "sql"), readyWorkers=2),
    )

    assert all(worker["loaded"] for worker in loaded["status"]["workers"])
    house.kubectl.run("delete", "lora", "sql")
    house.kubectl.wait_for("it is unloaded", lambda: not house.adapters_loaded())


def _arguments(deployment: Manifest | None) -> list[str]:
    if deployment is None:
        return []
    arguments: list[str] = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
    return arguments


def _with_arguments(deployment: Manifest | None, arguments: list[str]) -> Manifest | None:
    return deployment if _arguments(deployment) == arguments else None


def _with_status(found: Manifest | None, **wanted: Any) -> Manifest | None:
    status = (found or {}).get("status", {})
    return found if wanted.items() <= status.items() else None
