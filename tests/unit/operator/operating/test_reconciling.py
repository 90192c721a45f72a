import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from twofold_operator.cluster_api import (
    LLM_SERVICES,
    ClusterApiError,
    ConflictError,
    ForbiddenError,
    InvalidObjectError,
    Manifest,
    NotFoundError,
    ServiceKey,
    Store,
    UnavailableError,
)
from twofold_operator.operating.metrics import OperatorMetrics
from twofold_operator.operating.reconciling import (
    MAX_CHANGING_ROUNDS,
    MAX_CONFLICTS,
    Backoff,
    Reconciler,
    run_workers,
)
from twofold_operator.operating.waiting import WaitingKeys
from twofold_operator.planning import PlanSettings
from twofold_operator.planning.actions import (
    Action,
    AddFinalizer,
    ApplyObject,
    RecordEvent,
    SetStatus,
    TellPools,
)
from twofold_operator.planning.observed import SeenManager
from twofold_operator.pool_managers import ManagerUnreachableError

KEY = ServiceKey("models", "chat")
LIMIT_SECONDS = 30.0


def service(name: str = "chat") -> Manifest:
    return {
        "apiVersion": LLM_SERVICES.api_version,
        "kind": LLM_SERVICES.kind,
        "metadata": {
            "name": name,
            "namespace": "models",
            "uid": f"uid-of-{name}",
            "resourceVersion": "1",
            "generation": 1,
        },
        "spec": {"model": {"source": "hf://acme/small"}, "prefill": {}, "decode": {}},
    }


def unreadable_memory() -> Manifest:
    """Return what no API server takes, and no plan expects."""
    labels = {"app.kubernetes.io/instance": "chat"}
    metadata = {"name": "chat-revisions", "namespace": "models", "uid": "m", "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": ["no map"]}


def made(manifest: Any, version: int) -> Manifest:
    """Return *manifest* as the API server has it once it is applied."""
    metadata = {**manifest["metadata"], "uid": f"uid-{version}", "resourceVersion": str(version)}
    return {**manifest, "metadata": metadata}


class Managers:
    """No pool manager anywhere, or one at each address that has not been told anything yet."""

    def __init__(self) -> None:
        self.followed: dict[ServiceKey, Any] = {}
        self.answer = False

    def follow(self, key: ServiceKey, addresses: Any) -> None:
        self.followed[key] = addresses

    def seen(self, key: ServiceKey) -> dict[str, Any]:
        addresses = self.followed[key] if self.answer else ()
        return {address: SeenManager() for address in addresses}

    def unasked(self, key: ServiceKey) -> frozenset[str]:
        return frozenset()


class Actor:
    """Changes nothing; may fail at the first action that is no event."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.unreachable: Exception | None = None
        """Of every pool manager."""
        self.refused: dict[str, Exception] = {}
        """By the kind of what cannot be applied."""
        self.done: list[Action] = []
        self.looked: list[ServiceKey] = []

    async def act(self, key: ServiceKey, service: Manifest, action: Action) -> None:
        if self.failure is not None and not isinstance(action, RecordEvent):
            raise self.failure
        if isinstance(action, ApplyObject) and action.manifest["kind"] in self.refused:
            raise self.refused[action.manifest["kind"]]
        if isinstance(action, TellPools) and self.unreachable is not None:
            raise self.unreachable
        self.done.append(action)

    async def look(self, key: ServiceKey) -> None:
        self.looked.append(key)

    def refuse(self, kind: str, error: Exception) -> None:
        self.refused[kind] = error

    @property
    def applied(self) -> set[str]:
        """Return the kinds of what has been applied."""
        return {each.manifest["kind"] for each in self.done if isinstance(each, ApplyObject)}

    def statuses(self, kind: str) -> list[Manifest]:
        return [
            dict(each.status)
            for each in self.done
            if isinstance(each, SetStatus) and each.reference.kind == kind
        ]


class Bench:
    def __init__(self) -> None:
        self.waiting: WaitingKeys[ServiceKey] = WaitingKeys()
        self.store = Store(self.waiting.add)
        self.actor = Actor()
        self.managers = Managers()
        self.metrics = OperatorMetrics()
        self.reconciler = Reconciler(
            store=self.store,
            managers=self.managers,  # type: ignore[arg-type]
            actor=self.actor,  # type: ignore[arg-type]
            waiting=self.waiting,
            metrics=self.metrics,
            settings=PlanSettings(redis_url="redis://redis:6379/0"),
            backoff=Backoff(0.01, 60.0),
            apis=frozenset,
        )

    def results(self, result: str) -> float:
        found = self.metrics.registry.get_sample_value(
            "twofold_operator_reconciliations_total", {"result": result}
        )
        return found or 0.0


@pytest.fixture
async def bench() -> Any:
    bench = Bench()
    bench.store.put(service())
    yield bench
    bench.waiting.close()


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.CRITICAL):
        yield


def test_the_wait_after_a_failure_doubles_up_to_a_bound() -> None:
    backoff = Backoff(0.5, 60.0)

    assert [backoff.after(failures) for failures in (1, 2, 3, 20, 5000)] == [0.5, 1, 2, 60, 60]


async def test_a_new_service_gets_its_finalizer_before_anything_else(bench: Bench) -> None:
    assert await bench.reconciler.reconcile(KEY) == "changed"

    assert isinstance(bench.actor.done[0], AddFinalizer)


async def test_a_service_that_has_gone_is_forgotten(bench: Bench) -> None:
    bench.store.remove(service())

    assert await bench.reconciler.reconcile(KEY) == "settled"

    assert bench.managers.followed[KEY] == ()
    assert not bench.actor.done


async def test_an_adapter_whose_service_is_missing_is_told(bench: Bench) -> None:
    bench.store.remove(service())
    metadata = {"name": "sql", "namespace": KEY.namespace, "resourceVersion": "7", "uid": "sql"}
    spec = {"service": KEY.name, "source": "hf://acme/sql"}
    lost = {"kind": "LoRAAdapter", "metadata": metadata, "spec": spec}
    bench.store.put({"apiVersion": "serving.twofold.dev/v1alpha1", **lost})

    assert await bench.reconciler.reconcile(KEY) == "changed"

    (action,) = bench.actor.done
    assert isinstance(action, SetStatus)
    assert action.status["conditions"][0]["reason"] == "ServiceMissing"


@pytest.mark.parametrize(
    ("failure", "result"),
    [
        (ConflictError("another version"), "conflict"),
        (NotFoundError("gone"), "conflict"),
        (ManagerUnreachableError("no answer"), "waiting"),
    ],
)
async def test_what_waiting_mends_is_tried_again(
    bench: Bench, failure: Exception, result: str
) -> None:
    bench.waiting.add(KEY)
    await bench.waiting.take()
    bench.actor.failure = failure

    assert await bench.reconciler.reconcile(KEY) == result
    bench.waiting.done(KEY)

    assert await asyncio.wait_for(bench.waiting.take(), LIMIT_SECONDS) == KEY
    assert bench.actor.looked == ([KEY] if isinstance(failure, NotFoundError) else [])


async def test_what_was_seen_is_told_though_a_manager_does_not_take_what_it_is_told(
    bench: Bench,
) -> None:
    chat = service()
    chat["spec"]["ray"] = {"address": "ray.example:6379"}
    chat["metadata"]["resourceVersion"] = "2"
    bench.store.put(chat)
    await bench.reconciler.reconcile(KEY)
    for version, action in enumerate(bench.actor.done):
        if isinstance(action, ApplyObject):
            bench.store.put(made(action.manifest, version))
    bench.actor.done.clear()
    bench.managers.answer = True
    bench.actor.unreachable = ManagerUnreachableError("no answer")

    assert await bench.reconciler.reconcile(KEY) == "waiting"

    assert bench.actor.statuses("LLMService")


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("refusal", [InvalidObjectError, ForbiddenError])
async def test_one_refused_child_does_not_hold_up_the_others(
    bench: Bench, refusal: type[ClusterApiError]
) -> None:
    bench.actor.refuse("PodDisruptionBudget", refusal("spec.maxUnavailable: must not be negative"))

    assert await bench.reconciler.reconcile(KEY) == "failed"

    assert {"Deployment", "Service", "NetworkPolicy", "WorkerPool"} <= bench.actor.applied
    (status,) = bench.actor.statuses("LLMService")
    found = {each["type"]: each for each in status["conditions"]}
    for kind, value in (("Ready", "False"), ("Degraded", "True")):
        assert (found[kind]["status"], found[kind]["reason"]) == (value, "ApplyRefused")
        assert "spec.maxUnavailable: must not be negative" in found[kind]["message"]
    events = [each for each in bench.actor.done if isinstance(each, RecordEvent)]
    assert [each.reason for each in events if each.type == "Warning"] == ["ApplyRefused"]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("status", [500, 503])
async def test_what_the_server_has_no_time_for_is_told(bench: Bench, status: int) -> None:
    bench.actor.refuse("Deployment", UnavailableError("calling webhook: no answer", status))

    assert await bench.reconciler.reconcile(KEY) == "failed"

    (told,) = bench.actor.statuses("LLMService")
    ready = next(each for each in told["conditions"] if each["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ApplyRefused")
    assert "calling webhook: no answer" in ready["message"]
    assert ("PodDisruptionBudget" in bench.actor.applied) is (status == 500)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
async def test_nothing_is_made_without_what_it_needs(bench: Bench, kind: str) -> None:
    bench.actor.refuse(kind, ForbiddenError("exceeded quota"))

    await bench.reconciler.reconcile(KEY)

    assert bench.actor.applied <= {"ConfigMap", "Secret"} - {kind}
    (status,) = bench.actor.statuses("LLMService")
    assert "exceeded quota" in status["conditions"][0]["message"]


@pytest.mark.usefixtures("quiet")
async def test_what_is_refused_is_tried_again_and_told_no_more_when_taken(bench: Bench) -> None:
    bench.waiting.add(KEY)
    await bench.waiting.take()
    bench.actor.refuse("Service", InvalidObjectError("spec.ports: too many"))
    await bench.reconciler.reconcile(KEY)
    bench.actor.refused.clear()
    bench.actor.done.clear()
    bench.waiting.done(KEY)

    assert await asyncio.wait_for(bench.waiting.take(), LIMIT_SECONDS) == KEY
    assert await bench.reconciler.reconcile(KEY) == "changed"
    (status,) = bench.actor.statuses("LLMService")
    assert "ApplyRefused" not in {each["reason"] for each in status["conditions"]}


@pytest.mark.usefixtures("quiet")
async def test_a_conflict_is_a_race_until_it_comes_again_and_again(bench: Bench) -> None:
    bench.actor.refuse("Service", ConflictError("another writer"))
    told = []
    for _ in range(MAX_CONFLICTS + 1):
        bench.actor.done.clear()
        await bench.reconciler.reconcile(KEY)
        (status,) = bench.actor.statuses("LLMService")
        told.append("another writer" in status["conditions"][0]["message"])

    assert told == [False] * MAX_CONFLICTS + [True]
    assert "NetworkPolicy" in bench.actor.applied


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("failure", [UnavailableError("no server"), ZeroDivisionError("a bug")])
async def test_a_failure_of_one_service_is_counted_and_does_not_end_the_others(
    bench: Bench, failure: Exception
) -> None:
    bench.actor.failure = failure
    working = asyncio.create_task(run_workers(bench.reconciler, 1))
    bench.waiting.add(KEY)

    async with asyncio.timeout(LIMIT_SECONDS):
        while bench.results("failed") < 2:
            await asyncio.sleep(0.01)
        bench.actor.failure = None
        while not bench.results("changed"):
            await asyncio.sleep(0.01)
    working.cancel()


async def test_a_service_that_cannot_be_planned_says_so(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.store.put(unreadable_memory())
    working = asyncio.create_task(run_workers(bench.reconciler, 1))
    bench.waiting.add(KEY)

    async with asyncio.timeout(LIMIT_SECONDS):
        while not bench.results("failed"):
            await asyncio.sleep(0.01)
    working.cancel()

    status = bench.actor.statuses("LLMService")[0]
    found = {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}
    assert found["Ready"] == ("False", "PlanFailed")
    assert found["Degraded"] == ("True", "PlanFailed")
    assert "AttributeError" in status["conditions"][0]["message"]
    assert not bench.actor.applied
    (logged,) = (each for each in caplog.records if each.levelno == logging.ERROR)
    assert logged.exc_info is not None
    assert isinstance(logged.exc_info[1], AttributeError)


@pytest.mark.usefixtures("quiet")
async def test_whoever_undoes_what_is_written_is_answered_slower(bench: Bench) -> None:
    results = [await bench.reconciler.reconcile(KEY) for _ in range(MAX_CHANGING_ROUNDS + 1)]

    assert results == ["changed"] * MAX_CHANGING_ROUNDS + ["waiting"]
