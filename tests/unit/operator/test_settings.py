import pytest

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


@pytest.mark.parametrize("flag", ["--concurrency=0", "--lease-seconds=0.5", "--metrics-port=70000"])
def test_a_bad_value_stops_the_start_and_names_itself(flag: str) -> None:
    with pytest.raises(InvalidSettingError, match="must be"):
        _settings([flag], {})


def _settings(flags: list[str], environment: dict[str, str]) -> OperatorSettings:
    environment = REDIS | environment
    return settings_of(parser(environment).parse_args(flags), environment)
