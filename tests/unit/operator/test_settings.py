import pytest
from redis.asyncio.connection import parse_url

from twofold_operator.__main__ import parser, settings_of
from twofold_operator.settings import InvalidSettingError, OperatorSettings

REDIS = {"TWOFOLD_REDIS_URL": "redis://:secret@redis:6379/0"}


def test_flags_win_over_the_environment() -> None:
    settings = _settings(
        ["--router-image=ours", "--namespace=a"],
        {"TWOFOLD_ROUTER_IMAGE": "theirs", "TWOFOLD_SIM_IMAGE": "sim", "TWOFOLD_NAMESPACES": "b"},
    )

    assert settings.plan.router_image == "ours"
    assert settings.plan.sim_image == "sim"
    assert settings.namespaces == ("a",)


def test_lists_in_the_environment_are_separated_by_commas() -> None:
    assert _settings([], {"TWOFOLD_NAMESPACES": "a, b,"}).namespaces == ("a", "b")


def test_without_redis_nothing_starts() -> None:
    with pytest.raises(InvalidSettingError, match="TWOFOLD_REDIS_URL"):
        settings_of(parser({}).parse_args([]), {})


@pytest.mark.parametrize("password", ["plain", "p@ss/w?o#r:d", "100%", "p%40ss", 'a"b\\c', " é\n"])
@pytest.mark.parametrize(("url", "user"), [("redis://h:1/0", None), ("rediss://u@[::1]:1/0", "u")])
def test_a_password_of_its_own_is_what_clients_read_in_the_url(
    url: str, user: str | None, password: str
) -> None:
    told = {"TWOFOLD_REDIS_URL": url, "TWOFOLD_REDIS_PASSWORD": password}

    read = parse_url(_settings([], told).plan.redis_url)

    expected = {**parse_url(url), "password": password}
    assert read == expected
    assert read.get("username") == user


def test_the_same_password_in_the_url_is_the_same_redis() -> None:
    told = {"TWOFOLD_REDIS_URL": "redis://redis:6379/0", "TWOFOLD_REDIS_PASSWORD": "secret"}

    assert _settings([], told).plan.redis_url == REDIS["TWOFOLD_REDIS_URL"]


@pytest.mark.parametrize("password", ["two", "\udcff"])
def test_a_password_that_has_no_place_is_refused_and_not_told(password: str) -> None:
    with pytest.raises(InvalidSettingError, match="TWOFOLD_REDIS_PASSWORD") as refusal:
        _settings([], {"TWOFOLD_REDIS_PASSWORD": password})

    assert password not in str(refusal.value)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("flag", ["--concurrency=0", "--lease-seconds=0.5", "--metrics-port=70000"])
def test_a_bad_value_stops_the_start_and_names_itself(flag: str) -> None:
    with pytest.raises(InvalidSettingError, match="must be"):
        _settings([flag], {})


def _settings(flags: list[str], environment: dict[str, str]) -> OperatorSettings:
    environment = REDIS | environment
    return settings_of(parser(environment).parse_args(flags), environment)
