"""What is applied, and what of others is left alone."""

from typing import Any

import pytest

from twofold_operator.cluster_api import (
    LLM_SERVICES,
    ForeignObjectError,
    Kind,
    Manifest,
    NotFoundError,
    ServiceKey,
    Store,
)
from twofold_operator.operating.acting import Actor
from twofold_operator.planning.actions import ApplyObject, RecordEvent
from twofold_operator.planning.observed import Reference

KEY = ServiceKey("models", "chat")
SERVICE: Manifest = {
    "apiVersion": LLM_SERVICES.api_version,
    "kind": LLM_SERVICES.kind,
    "metadata": {"name": "chat", "namespace": "models", "uid": "uid-of-chat"},
}
OURS = {"app.kubernetes.io/managed-by": "twofold-operator"}


def child(**metadata: Any) -> Manifest:
    named = {"name": "chat", "namespace": "models", "uid": "1", "resourceVersion": "1"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {**named, **metadata}}


class Api:
    """Has one object, or none, and notes what is asked."""

    def __init__(self, there: Manifest | None) -> None:
        self._there = there
        self.asked: list[str] = []

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest:
        self.asked.append(f"get {kind.kind} {namespace}/{name}")
        if self._there is None:
            raise NotFoundError("404")
        return self._there

    async def apply(self, manifest: Manifest) -> Manifest:
        self.asked.append("apply")
        return child(labels=OURS)


async def apply(api: Api, store: Store) -> None:
    actor = Actor(api, store, None, None)  # type: ignore[arg-type]
    await actor.act(KEY, SERVICE, ApplyObject(child(labels=OURS)))


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"labels": {"app.kubernetes.io/managed-by": "Helm"}},
        {"ownerReferences": [{"kind": "LLMService", "uid": "uid-of-another"}]},
    ],
)
async def test_what_is_another_s_is_not_applied(metadata: Manifest) -> None:
    api = Api(child(**metadata))

    with pytest.raises(ForeignObjectError, match="Service chat exists and is not ours"):
        await apply(api, Store(lambda _: None))

    assert api.asked == ["get Service models/chat"]


@pytest.mark.parametrize(
    "there",
    [
        None,
        child(labels=OURS),
        child(ownerReferences=[{"uid": "another"}, {"uid": "uid-of-chat"}]),
    ],
)
async def test_what_is_missing_or_ours_is_applied(there: Manifest | None) -> None:
    api = Api(there)

    await apply(api, Store(lambda _: None))

    assert api.asked == ["get Service models/chat", "apply"]


async def test_what_is_held_is_applied_without_a_question() -> None:
    api, store = Api(None), Store(lambda _: None)
    store.put(child(labels=OURS))

    await apply(api, store)

    assert api.asked == ["apply"]


class Recorder:
    def __init__(self) -> None:
        self.recorded: list[tuple[str, str]] = []

    async def record(self, subject: Manifest, event: RecordEvent) -> None:
        self.recorded.append((subject["metadata"]["name"], event.reason))


async def test_an_event_is_recorded_about_what_it_names_and_else_about_the_service() -> None:
    adapter = {
        **child(name="sql"),
        "apiVersion": LLM_SERVICES.api_version,
        "kind": "LoRAAdapter",
    }
    store, recorder = Store(lambda _: None), Recorder()
    store.put(adapter)
    actor = Actor(Api(None), store, None, recorder)  # type: ignore[arg-type]
    of_adapter = Reference(LLM_SERVICES.api_version, "LoRAAdapter", "sql")
    await actor.act(KEY, SERVICE, RecordEvent("Normal", "Serving", "all is well"))
    await actor.act(KEY, SERVICE, RecordEvent("Normal", "Loaded", "everywhere", of_adapter))
    gone = Reference(LLM_SERVICES.api_version, "LoRAAdapter", "gone")
    await actor.act(KEY, SERVICE, RecordEvent("Normal", "Loaded", "everywhere", gone))

    assert recorder.recorded == [("chat", "Serving"), ("sql", "Loaded")]
