"""The LoRA adapters of a service."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from twofold_operator.cluster_api import ServiceKey, Store
from twofold_operator.planning.actions import RecordEvent, SetStatus
from twofold_operator.planning.adapters import service_missing
from twofold_operator.planning.conditions import timestamp
from twofold_operator.planning.observed import Reference
from twofold_operator.planning.reporting import lost_reports
from twofold_operator.planning.testing import World

SPEC: dict[str, Any] = {
    "model": {"source": "hf://acme/small", "lora": {}},
    "prefill": {"replicas": 1},
    "decode": {"replicas": 1},
}


def adapter(resource: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "serving.twofold.dev/v1alpha1",
        "kind": "LoRAAdapter",
        "metadata": {"name": resource, "namespace": "models", "uid": resource, "generation": 1},
        "spec": {"service": "chat", "source": f"hf://acme/{resource}", **spec},
    }


def world_with(*adapters: dict[str, Any], spec: dict[str, Any] = SPEC) -> World:
    world = World(spec)
    world.adapters = list(adapters)
    world.settle()
    return world


def ready(manifest: dict[str, Any]) -> dict[str, Any]:
    (condition,) = manifest["status"]["conditions"]
    return dict(condition)


def told(world: World) -> list[tuple[str, str]]:
    (manager,) = world.managers.values()
    assert manager.told is not None
    return [(adapter.name, adapter.source) for adapter in manager.told.adapters]


def test_an_adapter_is_loaded_on_every_worker_and_reported_per_worker() -> None:
    world = world_with(adapter("sql", name="acme/sql"))

    assert told(world) == [("acme/sql", "acme/sql")]
    status = world.adapters[0]["status"]
    assert status["summary"] == "2/2"
    assert [place["loaded"] for place in status["workers"]] == [True, True]
    assert ready(world.adapters[0])["status"] == "True"


def test_an_adapter_is_no_rollout_and_goes_with_its_resource() -> None:
    world = world_with()
    before = [worker.worker_id for worker in world.workers]
    world.adapters = [adapter("sql")]
    world.settle()
    assert told(world) == [("sql", "acme/sql")]

    world.adapters = []
    world.settle()

    assert told(world) == []
    assert [worker.worker_id for worker in world.workers] == before


def test_an_adapter_that_does_not_load_says_where() -> None:
    world = world_with(adapter("sql", source="hf://acme/missing"))

    assert ready(world.adapters[0])["status"] == "False"
    assert world.adapters[0]["status"]["summary"] == "0/2"


def test_an_adapter_counts_as_it_was_seen_last_while_its_manager_is_silent() -> None:
    world = world_with(adapter("sql"), adapter("bad", source="hf://acme/missing"))
    before = [each["status"]["workers"] for each in world.adapters]
    world.unreachable = set(world.managers)

    for _ in range(2):
        world.follow(world.plan())

        assert [each["status"]["summary"] for each in world.adapters] == ["2/2", "0/2"]
        assert [each["status"]["workers"] for each in world.adapters] == before
    condition = ready(world.adapters[0])
    assert (condition["status"], condition["reason"]) == ("Unknown", "ManagerUnreachable")
    assert condition["message"].startswith("2 of 2 workers had it when last seen; the pool manager")
    world.unreachable = set()
    world.settle()
    assert ready(world.adapters[0])["status"] == "True"


def test_an_adapter_counts_no_more_where_its_workers_have_ended() -> None:
    world = world_with(adapter("sql"))
    (home,) = (child for (kind, _), child in world.objects.items() if kind == "RayCluster")
    lost = {"type": "HeadPodReady", "status": "False", "reason": "Lost", "message": ""}
    home["status"] = {"conditions": [{**lost, "lastTransitionTime": timestamp(world.now)}]}
    world.unreachable = set(world.managers)

    world.follow(world.plan())

    assert world.adapters[0]["status"]["summary"] == "0/0"
    assert ready(world.adapters[0])["reason"] == "NoWorkers"


def test_in_a_rollout_an_adapter_counts_where_it_is_seen_and_where_it_was() -> None:
    pools = {"prefill": {"replicas": 2}, "decode": {"replicas": 2}}
    spec = {**SPEC, **pools, "rollout": {"maxSurge": 1}}
    world = world_with(adapter("sql"), spec=spec)
    world.unreachable = set(world.managers)
    world.change({**spec, "model": {**SPEC["model"], "revision": "other"}})
    summaries = []

    for _ in range(16):
        world.follow(world.plan())
        world.live()
        status = world.adapters[0]["status"]
        summaries.append(status["summary"])
        assert len({place["worker"] for place in status["workers"]}) == len(status["workers"])

    assert [summary for summary, _ in itertools.groupby(summaries)] == ["4/4", "6/6"]


@pytest.mark.parametrize(
    ("adapters", "spec", "reason"),
    [
        ([adapter("sql")], {**SPEC, "model": {"source": "hf://acme/small"}}, "AdaptersDisabled"),
        ([adapter("sql", name="chat")], SPEC, "NameTaken"),
        ([adapter("sql", source="s3://bucket/path")], SPEC, "InvalidSpec"),
    ],
)
def test_an_adapter_that_cannot_be_loaded_is_refused_and_told_to_nobody(
    adapters: list[dict[str, Any]], spec: dict[str, Any], reason: str
) -> None:
    world = world_with(*adapters, spec=spec)

    assert ready(world.adapters[0])["reason"] == reason
    assert told(world) == []
    assert world.condition("Ready")["status"] == "True"


def test_a_refusal_names_whose_the_name_is() -> None:
    world = world_with(adapter("a"), adapter("b", name="a"), adapter("c", name="chat"))

    (_, second, third) = world.adapters
    assert "a is the name of LoRAAdapter a, which is older" in ready(second)["message"]
    assert "chat is the name of the model of service chat" in ready(third)["message"]
    assert "delete this one" in ready(third)["message"]


def test_a_name_that_another_service_has_is_free() -> None:
    """Each service has an address of its own, so that the two are never in one place."""
    store = Store(lambda key: None)
    world = world_with(adapter("sql", name="other"))
    world.service["metadata"]["resourceVersion"] = "1"
    store.put(world.service)
    for at, service in enumerate(("chat", "other")):
        metadata = {"name": f"of-{service}", "namespace": "models", "resourceVersion": str(at + 1)}
        one = adapter("", service=service, name="sql")
        store.put({**one, "metadata": {**metadata, "uid": service}})

    seen = store.observed(ServiceKey("models", "chat"))

    assert ready(world.adapters[0])["reason"] == "Loaded"
    assert told(world) == [("other", "acme/sql")]
    assert seen is not None
    assert [one["metadata"]["name"] for one in seen.adapters] == ["of-chat"]


def test_an_adapter_without_its_service_says_so_once() -> None:
    lost = adapter("sql")
    why = service_missing("chat")
    (action,) = lost_reports([lost], why, now=0.0)
    assert isinstance(action, SetStatus)
    lost["status"] = action.status

    assert ready(lost)["reason"] == "ServiceMissing"
    assert "no LLMService chat" in ready(lost)["message"]
    assert lost_reports([lost], why, now=9.0) == []
    assert lost_reports([_leaving(lost)], why, now=9.0) == []


def test_an_adapter_of_a_service_that_never_had_a_good_spec_says_so_until_it_has_one() -> None:
    world = world_with(adapter("sql"), spec={**SPEC, "decode": {"replicas": -1}})

    assert ready(world.adapters[0])["reason"] == "ServiceInvalid"
    assert "LLMService chat" in ready(world.adapters[0])["message"]

    world.change(SPEC)
    world.settle()
    assert ready(world.adapters[0])["reason"] == "Loaded"


def _leaving(manifest: dict[str, Any]) -> dict[str, Any]:
    metadata = {**manifest["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    return {**manifest, "metadata": metadata, "status": None}


def test_of_two_adapters_with_one_name_the_older_is_loaded() -> None:
    older, younger = adapter("b", name="sql"), adapter("a", name="sql")
    older["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    younger["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"

    world = world_with(younger, older)

    assert told(world) == [("sql", "acme/b")]
    assert ready(younger)["reason"] == "NameTaken"


def about_adapters(world: World) -> list[tuple[str, str, str]]:
    return [(e.about.name, e.type, e.reason) for e in world.events if e.about is not None]


def test_a_loaded_adapter_and_one_whose_name_is_taken_are_events_of_theirs() -> None:
    older, younger = adapter("a", name="sql"), adapter("b", name="sql")
    world = world_with(older, younger)
    world.settle()

    assert about_adapters(world) == [("b", "Warning", "NameTaken"), ("a", "Normal", "Loaded")]
    (event,) = (one for one in world.events if one.reason == "Loaded")
    assert event.about == Reference("serving.twofold.dev/v1alpha1", "LoRAAdapter", "a")


def test_an_adapter_that_cannot_be_loaded_any_more_is_an_event_with_the_worker_s_words() -> None:
    world = world_with(adapter("sql"))
    world.events.clear()
    (manager,) = world.managers.values()
    manager.workers = [
        replace(
            worker,
            adapters=tuple(replace(a, loaded=False, message="rank 128") for a in worker.adapters),
        )
        for worker in manager.workers
    ]

    (event,) = (action for action in world.plan() if isinstance(action, RecordEvent))

    assert (event.type, event.reason) == ("Warning", "LoadFailed")
    assert "rank 128" in event.message
