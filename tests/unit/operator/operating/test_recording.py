"""Kubernetes events: made once, counted after that, and lost rather than in the way."""

from typing import Any

from twofold_operator.cluster_api import (
    LLM_SERVICES,
    ClusterApiError,
    Kind,
    Manifest,
    NotFoundError,
)
from twofold_operator.operating.recording import EventRecorder
from twofold_operator.planning.actions import RecordEvent

SERVICE: Manifest = {
    "apiVersion": LLM_SERVICES.api_version,
    "kind": LLM_SERVICES.kind,
    "metadata": {"name": "chat", "namespace": "models", "uid": "1", "resourceVersion": "7"},
}
ADAPTER: Manifest = {
    "apiVersion": LLM_SERVICES.api_version,
    "kind": "LoRAAdapter",
    "metadata": {"name": "sql", "namespace": "models", "uid": "2", "resourceVersion": "8"},
}
SERVING = RecordEvent("Normal", "Serving", "requests are served")


class Api:
    """Keeps events by name."""

    def __init__(self) -> None:
        self.events: dict[str, Manifest] = {}
        self.failure: ClusterApiError | None = None

    async def create(self, manifest: Manifest) -> Manifest:
        if self.failure is not None:
            raise self.failure
        self.events[manifest["metadata"]["name"]] = manifest
        return manifest

    async def patch(self, _: Kind, namespace: str, name: str, change: Manifest) -> Manifest:
        assert namespace == "models"
        if name not in self.events:
            raise NotFoundError("404")
        self.events[name] |= change
        return self.events[name]

    @property
    def counts(self) -> list[int]:
        return [event["count"] for event in self.events.values()]


class Bench:
    def __init__(self) -> None:
        self.api = Api()
        self.now = 1000.0
        api: Any = self.api
        self._recorder = EventRecorder(api, "pod-1", lambda: self.now)

    async def record(self, subject: Manifest, event: RecordEvent) -> None:
        await self._recorder.record(subject, event)


async def test_an_event_names_its_subject_whatever_that_is() -> None:
    bench = Bench()
    await bench.record(ADAPTER, RecordEvent("Warning", "NameTaken", "x" * 2000))

    (event,) = bench.api.events.values()
    assert event["involvedObject"] == {
        "apiVersion": "serving.twofold.dev/v1alpha1",
        "kind": "LoRAAdapter",
        "namespace": "models",
        "name": "sql",
        "uid": "2",
        "resourceVersion": "8",
    }
    assert event["metadata"]["namespace"] == "models"
    assert (event["type"], event["reason"]) == ("Warning", "NameTaken")
    assert event["message"] == "x" * 1024


async def test_the_same_again_within_ten_minutes_is_counted_in_the_first() -> None:
    bench = Bench()
    for _ in range(3):
        await bench.record(SERVICE, SERVING)
        bench.now += 599.0  # since the one before

    assert bench.api.counts == [3]


async def test_the_same_after_ten_minutes_is_another() -> None:
    bench = Bench()
    await bench.record(SERVICE, SERVING)
    bench.now += 601.0
    await bench.record(SERVICE, SERVING)

    assert bench.api.counts == [1, 1]


async def test_another_message_or_subject_is_another() -> None:
    bench = Bench()
    await bench.record(SERVICE, SERVING)
    await bench.record(SERVICE, RecordEvent("Normal", "Serving", "by decode workers alone"))
    await bench.record(ADAPTER, SERVING)

    assert bench.api.counts == [1, 1, 1]


async def test_an_event_that_the_server_has_forgotten_is_made_anew() -> None:
    bench = Bench()
    await bench.record(SERVICE, SERVING)
    bench.api.events.clear()
    await bench.record(SERVICE, SERVING)

    assert bench.api.counts == [1]


async def test_an_event_that_cannot_be_written_is_lost_and_not_counted() -> None:
    bench = Bench()
    bench.api.failure = ClusterApiError("500")
    await bench.record(SERVICE, SERVING)
    bench.api.failure = None
    await bench.record(SERVICE, SERVING)

    assert bench.api.counts == [1]
