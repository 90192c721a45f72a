"""The engines' API key: where it may stand, and that no message repeats it."""

from pathlib import Path

import pytest

from twofold_router.static_workers import (
    InvalidEngineKeyError,
    check_engine_key,
    engine_headers,
    read_engine_key,
)


def test_a_file_holds_the_key_and_perhaps_a_line_break(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("\ns3cret+/=\n")

    assert read_engine_key(file) == "s3cret+/="


@pytest.mark.parametrize("held", [b"", b"\n", b"s3cret other", b"s3cret\nother\n", b"s3cret\xff"])
def test_a_file_without_one_key_is_refused_by_its_name_alone(tmp_path: Path, held: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(held)

    with pytest.raises(InvalidEngineKeyError) as raised:
        read_engine_key(file)

    assert f"--engine-api-key-file {file}" in str(raised.value)
    assert "s3cret" not in str(raised.value)
    assert raised.value.__cause__ is None  # it would repeat what it could not decode


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InvalidEngineKeyError, match="absent: No such file"):
        read_engine_key(tmp_path / "absent")


@pytest.mark.parametrize("key", ["", "s3cret ", "s3\r\ncret", "s3crét"])
def test_what_cannot_stand_in_a_header_is_no_key(key: str) -> None:
    with pytest.raises(InvalidEngineKeyError, match=r"\$VARIABLE must hold one key") as raised:
        check_engine_key(key, "$VARIABLE")

    assert key == "" or key not in str(raised.value)


def test_a_key_is_sent_as_vllm_wants_it_and_no_key_is_not_sent() -> None:
    assert engine_headers("s3cret") == ((b"authorization", b"Bearer s3cret"),)
    assert engine_headers("") == ()
