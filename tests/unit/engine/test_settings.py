import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_engine.settings import (
    MAX_DIRECTORY_HOLDINGS,
    MOVERS,
    REDIS_ENV,
    WorkerSettings,
    from_argv,
    to_argv,
)

words = st.text("abcdefghijklmnopqrstuvwxyz0123456789/.:_", min_size=1)


@given(
    st.builds(
        WorkerSettings,
        service=words,
        worker_id=words.map(WorkerId),
        role=st.sampled_from(Role),
        model=words,
        served_name=words,
        incarnation=words.map(Incarnation),
        tensor_parallel=st.integers(1, 8),
        kv_cache_gib=st.floats(0.25, 512),
        kv_events=st.booleans(),
        rdma=st.booleans(),
        unverified=st.booleans(),
        directory_holdings=st.none() | st.integers(1, MAX_DIRECTORY_HOLDINGS),
        connector=st.sampled_from(MOVERS["connector"]),
        transport=st.sampled_from(MOVERS["transport"]),
        standby=st.booleans(),
        events_fd=st.none() | st.integers(3, 99),
        node=words,
        engine_args=st.lists(words.map("--".__add__) | words).map(tuple),
    )
)
def test_settings_survive_the_command_line(settings: WorkerSettings) -> None:
    assert from_argv(to_argv(settings), module="m", role=Role.BOTH) == settings


def test_where_redis_is_comes_from_the_environment_unless_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(REDIS_ENV, "redis://h:1")

    assert from_argv(["--model", "m"], module="m", role=Role.BOTH).redis == "redis://h:1"
    said = from_argv(["--model", "m", "--redis", "redis://i:1"], module="m", role=Role.BOTH)
    assert said.redis == "redis://i:1"


def test_the_served_name_is_the_model_unless_it_is_said() -> None:
    settings = from_argv(["--model", "org/name"], module="m", role=Role.PREFILL)

    assert settings.served_name == "org/name"
    assert settings.role is Role.PREFILL


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--max-unprefilled", "0"),
        ("--lease-seconds", "2"),
        ("--kv-cache-gib", "0"),
        ("--directory-holdings", "0"),
        ("--directory-holdings", "1000000001"),
        ("--role", "x"),
    ],
)
def test_a_bad_value_stops_the_start_and_names_itself(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        from_argv(["--model", "m", option, value], module="m", role=Role.PREFILL)

    assert option.strip("-").replace("-", "_") in capsys.readouterr().err.replace("-", "_")


def test_compression_is_said_on_the_command_line() -> None:
    argv = ["--model", "m", "--connector", "twofold", "--transport", "tcp", "--compression", "int4"]

    settings = from_argv(argv, module="m", role=Role.BOTH)

    assert settings.compression == "int4"
    assert from_argv(to_argv(settings), module="m", role=Role.BOTH) == settings


@pytest.mark.parametrize("mover", [["--connector", "twofold"], ["--transport", "tcp"], []])
def test_compression_without_our_tcp_is_refused(
    mover: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        from_argv(["--model", "m", "--compression", "int8", *mover], module="m", role=Role.BOTH)

    assert "needs connector twofold and transport tcp" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("10.0.0.7", "http://10.0.0.7:8001"),
        ("fd00::7", "http://[fd00::7]:8001"),
        ("worker-1.pool", "http://worker-1.pool:8001"),
    ],
)
def test_a_worker_is_reached_at_its_host(host: str, url: str) -> None:
    settings = from_argv(["--model", "m", "--host", host], module="m", role=Role.BOTH)

    assert settings.url(8001) == url
