"""From the command line to the settings."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from twofold_operator.planning.children.router import router_deployment
from twofold_operator.planning.settings import PlanSettings
from twofold_operator.resources import InvalidSpecError, parse_service
from twofold_router.__main__ import make_parser, settings_of
from twofold_router.access import is_origin
from twofold_router.settings import InvalidSettingError, RouterSettings
from twofold_router.static_workers import InvalidEngineKeyError

EXAMPLES = Path(__file__).parents[3] / "deploy" / "examples"
ELSEWHERE = {"TWOFOLD_REDIS_URL": "redis://:secret@b"}


def settings(*flags: str, **environment: str) -> RouterSettings:
    return settings_of(make_parser().parse_args(flags), environment)


def test_without_flags_the_settings_are_the_defaults() -> None:
    assert settings("--service", "s") == RouterSettings(service="s")


def test_the_flag_for_redis_goes_before_the_environment() -> None:
    assert settings("--service", "s", **ELSEWHERE).redis_url == "redis://:secret@b"
    assert settings("--service", "s", "--redis", "redis://a", **ELSEWHERE).redis_url == "redis://a"


def test_redis_for_workers_that_are_given_is_refused() -> None:
    with pytest.raises(InvalidSettingError, match="--redis goes with --service"):
        settings("--worker", "both=http://a", "--redis", "redis://a")
    assert settings("--worker", "both=http://a", **ELSEWHERE).workers


def test_origins_are_given_one_by_one() -> None:
    flags = (
        "--service",
        "s",
        "--allowed-origin",
        "https://a.example",
        "--allowed-origin=http://b:1",
    )

    assert settings(*flags).allowed_origins == ("https://a.example", "http://b:1")
    with pytest.raises(InvalidSettingError, match=r"https://a\.example/"):
        settings("--service", "s", "--allowed-origin", "https://a.example/")


def test_the_engines_key_comes_from_a_file_or_else_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("of-the-file\n")
    flags = ("--worker", "both=http://a")
    environment = {"TWOFOLD_ENGINE_API_KEY": "of-the-environment"}

    keys = [
        settings(*flags).engine_api_key,
        settings(*flags, **environment).engine_api_key,
        settings(*flags, "--engine-api-key-file", str(file), **environment).engine_api_key,
        settings("--service", "s", **environment).engine_api_key,
    ]

    assert keys == ["", "of-the-environment", "of-the-file", ""]
    assert "of-the" not in repr(settings(*flags, **environment))


def test_a_key_that_is_none_stops_the_start() -> None:
    with pytest.raises(InvalidEngineKeyError, match=r"\$TWOFOLD_ENGINE_API_KEY must hold one key"):
        settings("--worker", "both=http://a", TWOFOLD_ENGINE_API_KEY="two keys")


def test_the_help_tells_no_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOFOLD_REDIS_URL", ELSEWHERE["TWOFOLD_REDIS_URL"])
    with pytest.raises(SystemExit):
        make_parser().parse_args(["--help"])

    told = capsys.readouterr().out
    assert "TWOFOLD_REDIS_URL" in told
    assert "secret" not in told


def manifest_of(example: str) -> dict[str, Any]:
    """Read an example of an LLMService, as it would be in a cluster."""
    documents = yaml.safe_load_all((EXAMPLES / f"{example}.yaml").read_text())
    manifest: dict[str, Any]
    (manifest,) = (each for each in documents if each["kind"] == "LLMService")
    manifest["metadata"] |= {"namespace": "ns", "uid": "u"}
    return manifest


def arguments_of(manifest: dict[str, Any]) -> list[str]:
    """Return what the operator passes to the router."""
    deployment = router_deployment(parse_service(manifest), PlanSettings(redis_url="redis://a"))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    arguments: list[str] = container["args"]
    return arguments


ORIGINS = ["*", "https://a.example", "http://[::1]:80", "https://a.example/", "a.example"]


@pytest.mark.parametrize("origin", ORIGINS)
def test_the_router_takes_the_origins_that_the_operator_takes(origin: str) -> None:
    manifest = manifest_of("smallest")
    manifest["spec"]["gateway"] = {"allowedOrigins": [origin]}

    with ExitStack() as stack:
        if not is_origin(origin):
            stack.enter_context(pytest.raises(InvalidSpecError))
        arguments = arguments_of(manifest)
        assert settings(*arguments, **ELSEWHERE).allowed_origins == (origin,)


@pytest.mark.parametrize("example", ["smallest", "production", "sim", "lora", "external-ray"])
def test_what_the_operator_passes_is_understood(example: str) -> None:
    manifest = manifest_of(example)

    understood = settings(*arguments_of(manifest), **ELSEWHERE)

    assert understood.service == f"ns.{manifest['metadata']['name']}"
    assert understood.host == ""
    assert understood.drain_delay_seconds > 0


def test_a_flag_keeps_prefixes_from_being_fetched() -> None:
    assert settings("--service", "s").placement().prefix_pull
    assert not settings("--service", "s", "--no-prefix-pull").placement().prefix_pull


@pytest.mark.parametrize("prefix_pull", [True, False])
def test_the_operator_passes_on_whether_prefixes_are_fetched(prefix_pull: bool) -> None:
    manifest = manifest_of("smallest")
    manifest["spec"]["routing"] = {"prefixPull": prefix_pull}

    assert settings(*arguments_of(manifest), **ELSEWHERE).prefix_pull == prefix_pull
