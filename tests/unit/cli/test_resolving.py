import os
from pathlib import Path

import pytest

from twofold_cli.errors import BadArgumentError
from twofold_cli.models import smollm2
from twofold_cli.models.resolving import resolve


def test_a_directory_is_served_by_its_name_and_its_weights_are_counted(tmp_path: Path) -> None:
    model = tmp_path / "tiny"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "a.safetensors").write_bytes(b"12345")
    (model / "b.safetensors").write_bytes(b"123")

    found = resolve(f"{model}/")

    assert (found.source, found.served_name, found.weights_bytes) == (str(model), "tiny", 8)


def test_a_directory_without_a_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(BadArgumentError, match=r"has no config\.json"):
        resolve(str(tmp_path))


@pytest.mark.parametrize("argument", ["./gone", "/no/such/place", "~/nowhere-at-all", "a/b/c"])
def test_what_looks_like_a_path_is_not_taken_for_a_hubs_name(argument: str) -> None:
    with pytest.raises(BadArgumentError, match="no such directory"):
        resolve(argument)


@pytest.mark.parametrize("argument", ["Qwen/Qwen3-0.6B", "gpt2"])
def test_any_other_name_goes_to_the_hub_as_it_is(argument: str) -> None:
    found = resolve(argument)

    assert (found.source, found.served_name) == (argument, argument)


@pytest.mark.parametrize("argument", ["", "two words", "-dash", "a/"])
def test_what_no_hub_would_take_is_refused(argument: str) -> None:
    with pytest.raises(BadArgumentError):
        resolve(argument)


def test_another_file_is_converted_to_another_place(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"one")
    first = smollm2.converted_directory(file, tmp_path)
    file.write_bytes(b"two")

    second = smollm2.converted_directory(file, tmp_path)

    assert first != second
    assert first.parent == tmp_path


def test_what_is_converted_is_not_converted_again(tmp_path: Path) -> None:
    target = tmp_path / "converted"
    target.mkdir()

    smollm2.convert(tmp_path / "no such file", target)

    assert os.listdir(target) == []
