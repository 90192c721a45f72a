import dataclasses
import json
import os
from typing import Any

import pytest

from twofold_cluster.identity import Role, WorkerId
from twofold_engine.environment import engine_environment
from twofold_engine.settings import WorkerSettings
from twofold_engine.vllm_arguments import vllm_arguments
from twofold_kvtransfer import ConnectorSettings
from twofold_kvtransfer.settings import SECRET_ENV, secret_in


def some_settings(*, kv_events: bool = False, connector: str = "nixl") -> WorkerSettings:
    return WorkerSettings(
        service="s",
        worker_id=WorkerId("w"),
        role=Role.PREFILL,
        model="/models/m",
        served_name="org/m",
        host="127.0.0.7",
        kv_events=kv_events,
        connector=connector,
        transport="tcp",
        compression="int8" if connector == "twofold" else "off",
        unverified=True,
        lease_seconds=12,
    )


def transfer_config(settings: WorkerSettings) -> dict[str, Any]:
    arguments = vllm_arguments(settings)
    config: dict[str, Any] = json.loads(arguments[arguments.index("--kv-transfer-config") + 1])
    return config


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


def test_an_engine_moves_its_blocks_with_vllms_connector_unless_it_is_told_otherwise() -> None:
    config = transfer_config(some_settings())

    assert config["kv_connector"] == "NixlConnector"
    assert config["kv_connector_extra_config"] == {"kv_lease_duration": 12}


def test_our_connector_is_told_where_to_listen_and_what_to_move_blocks_over() -> None:
    settings = some_settings(connector="twofold")

    config = transfer_config(settings)

    assert config["kv_connector"] == "TwofoldConnector"
    assert config["engine_id"] == f"w:{settings.incarnation}"
    own = ConnectorSettings.from_config(config["kv_connector_extra_config"])
    assert (own.host, own.transport, own.lease_seconds) == ("127.0.0.7", "tcp", 12)
    assert own.compression == "int8"
    assert not own.verify
    assert own.service_port == own.port + settings.tensor_parallel


def test_a_port_is_left_for_the_worker_after_those_of_its_ranks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts: list[int] = []

    def free_ports(host: str, count: int) -> int:
        counts.append(count)
        return 7000

    monkeypatch.setattr("twofold_engine.vllm_arguments.free_ports", free_ports)
    settings = dataclasses.replace(some_settings(connector="twofold"), tensor_parallel=2)

    config = transfer_config(settings)

    own = ConnectorSettings.from_config(config["kv_connector_extra_config"])
    assert (own.port, own.service_port) == (7000, 7002)
    assert counts == [5]


def test_an_unknown_connector_is_named() -> None:
    with pytest.raises(ValueError, match="connector must be nixl or twofold, not smoke"):
        some_settings(connector="smoke")


def secret_of(**changes: str | None) -> str | None:
    settings = dataclasses.replace(some_settings(connector="twofold"), **changes)  # type: ignore[arg-type]
    return engine_environment(settings).get(SECRET_ENV)


def test_the_engines_of_a_service_have_a_secret_made_of_its_rediss_password() -> None:
    one = secret_of(redis="redis://:s%40cret@one:6379/0")

    assert one is not None
    assert secret_of(redis="redis://user:s%40cret@other:1/3") == one
    assert secret_of(redis="redis://:another@one:6379/0") != one
    assert secret_of(redis="redis://:s%40cret@one:6379/0", service="another") != one
    assert "cret" not in one


@pytest.mark.parametrize("redis", [None, "redis://one:6379/0", "redis://user@one"])
def test_without_a_password_there_is_no_secret(redis: str | None) -> None:
    assert secret_of(redis=redis) is None


def test_a_secret_that_somebody_has_set_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_ENV, "theirs")

    assert secret_of(redis="redis://:secret@one") is None
    assert secret_in(os.environ) == b"theirs"


@pytest.mark.parametrize("environment", [{}, {SECRET_ENV: ""}])
def test_an_engine_without_a_secret_has_none(environment: dict[str, str]) -> None:
    assert secret_in(environment) is None


def test_no_setting_that_vllm_logs_has_the_secret() -> None:
    password = "redis://:secret@one"
    settings = dataclasses.replace(some_settings(connector="twofold"), redis=password)
    secret = engine_environment(settings)[SECRET_ENV]

    assert not any(secret in argument for argument in vllm_arguments(settings))
