"""What makes a revision."""

from dataclasses import replace
from typing import Any

import pytest

from twofold_operator.planning.revisions import revision_of, worker_image
from twofold_operator.planning.settings import PlanSettings
from twofold_operator.resources import LLMService, parse_service

SETTINGS = PlanSettings(redis_url="redis://redis:6379")


def service(**changes: Any) -> LLMService:
    spec = {
        "model": {"source": "hf://acme/small"},
        "prefill": {"replicas": 1},
        "decode": {"replicas": 1},
        **changes,
    }
    return parse_service({"metadata": {"name": "chat", "namespace": "models"}, "spec": spec})


def revision(settings: PlanSettings = SETTINGS, **changes: Any) -> str:
    changed = service(**changes)
    return revision_of(changed, worker_image(changed.spec, settings), settings)


@pytest.mark.parametrize(
    "changes",
    [
        {"prefill": {"replicas": 7, "minReplicas": 1, "maxReplicas": 9}},
        {"gateway": {"replicas": 3, "port": 8080, "drainSeconds": 300}},
        {"routing": {"blockTokens": 64}},
        {"slo": {"ttftMs": 1}},
        {"rollout": {"maxSurge": 1}},
        {"observability": {"serviceMonitor": True}},
        {"disaggregation": {"enabled": False}},
        {"images": {"router": "other"}},
        # What the API server fills in.
        {"engine": "vllm", "transfer": {"connector": "nixl", "rdma": False}},
        {"ray": {"orphanSeconds": 600}},
    ],
)
def test_what_needs_no_new_workers_is_no_new_revision(changes: dict[str, Any]) -> None:
    assert revision(**changes) == revision()


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"source": "hf://acme/other"}},
        {"model": {"source": "hf://acme/small", "servedName": "other"}},
        {"model": {"source": "hf://acme/small", "engineArgs": ["--seed=1"]}},
        {"model": {"source": "hf://acme/small", "lora": {}}},
        {"decode": {"replicas": 1, "tensorParallel": 2}},
        {"prefill": {"replicas": 1, "resources": {"requests": {"cpu": "2"}}}},
        {"prefill": {"replicas": 1, "podTemplate": {"spec": {"nodeSelector": {"a": "b"}}}}},
        {"images": {"worker": "other"}},
        {"engine": "sim"},
        {"transfer": {"rdma": True}},
        {"ray": {"address": "ray:6379"}},
        {"ray": {"gcsFaultTolerance": {"redisAddress": "redis:6379"}}},
        {"ray": {"orphanSeconds": 900}},
        {"observability": {"kvEvents": True}},
        {"observability": {"directoryHoldings": 100}},
    ],
)
def test_what_needs_new_workers_is_a_new_revision(changes: dict[str, Any]) -> None:
    assert revision(**changes) != revision()


@pytest.mark.parametrize(
    "images", [{"pullPolicy": "Always"}, {"pullSecrets": [{"name": "another"}]}]
)
def test_how_images_are_pulled_is_part_of_a_revision_on_an_existing_ray_only(images: Any) -> None:
    ray: Any = {"ray": {"address": "ray:6379"}}

    assert revision(images=images) == revision()
    assert revision(images=images, **ray) != revision(**ray)


@pytest.mark.parametrize("change", [{"image_pull_secrets": ("a",)}, {"drain_seconds": 7.0}])
def test_what_the_operator_is_told_of_pods_is_part_of_it_there_as_well(change: Any) -> None:
    ray: Any = {"ray": {"address": "ray:6379"}}
    settings = replace(SETTINGS, **change)

    assert revision(settings) == revision()
    assert revision(settings, **ray) != revision(**ray)
