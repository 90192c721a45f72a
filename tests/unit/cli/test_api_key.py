"""The user's API key: where it is from, and what cannot be one."""

from pathlib import Path

import pytest

from twofold_cli.api_key import key_headers, user_key, wants_keys
from twofold_cli.errors import BadArgumentError


def test_a_key_is_that_of_the_file_else_of_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("tf-file\n")
    environ = {"TWOFOLD_API_KEY": "tf-environment"}

    assert user_key(file, environ) == "tf-file"
    assert user_key(None, environ) == "tf-environment"
    assert user_key(None, {"TWOFOLD_API_KEY": ""}) is user_key(None, {}) is None


@pytest.mark.parametrize("text", ["", "tf-secret two", "tf-secret\ntwo", "tf-secreté"])
def test_what_is_no_key_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    file = tmp_path / "key"
    file.write_text(text)

    with pytest.raises(BadArgumentError, match="--api-key-file") as raised:
        user_key(file, {})

    assert "secret" not in str(raised.value)


def test_a_key_of_the_environment_is_checked_and_a_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadArgumentError, match=r"\$TWOFOLD_API_KEY must hold one key"):
        user_key(None, {"TWOFOLD_API_KEY": "two words"})
    with pytest.raises(BadArgumentError, match=r"cannot read .*: No such file"):
        user_key(tmp_path / "nowhere", {})


def test_a_key_goes_into_a_header() -> None:
    assert key_headers("tf-1") == {"authorization": "Bearer tf-1"}
    assert key_headers(None) == {}


@pytest.mark.parametrize(
    "told", [("--keys-file=k.toml",), ("--policy=one-ring", "--keys-file", "k")]
)
def test_a_router_with_a_file_of_keys_wants_one(told: tuple[str, ...]) -> None:
    assert wants_keys(told)
    assert not wants_keys(("--insecure",))
