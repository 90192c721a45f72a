import json

import pytest

from twofold_cluster.identity import Role, WorkerId
from twofold_engine.environment import engine_environment
from twofold_engine.settings import WorkerSettings
from twofold_engine.vllm_arguments import vllm_arguments


def some_settings(*, kv_events: bool) -> WorkerSettings:
    return WorkerSettings(
        service="s",
        worker_id=WorkerId("w"),
        role=Role.PREFILL,
        model="/models/m",
        served_name="org/m",
        host="127.0.0.7",
        kv_events=kv_events,
    )


def test_an_engine_that_is_to_publish_its_events_has_a_topic_and_a_replay_of_its_own() -> None:
    arguments = vllm_arguments(some_settings(kv_events=True))

    config = json.loads(arguments[arguments.index("--kv-events-config") + 1])
    assert config["enable_kv_cache_events"] is True
    assert config["topic"] == "kv@w@org/m"
    assert config["replay_endpoint"]


def test_events_are_published_at_the_address_of_the_worker_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("VLLM_HOST_IP", raising=False)

    assert engine_environment(some_settings(kv_events=True))["VLLM_HOST_IP"] == "127.0.0.7"


def test_an_engine_publishes_no_events_unless_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("VLLM_HOST_IP", raising=False)
    settings = some_settings(kv_events=False)

    assert "--kv-events-config" not in vllm_arguments(settings)
    assert "VLLM_HOST_IP" not in engine_environment(settings)
