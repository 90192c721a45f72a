"""The command: what it is given, what it writes, and how it ends."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from twofold_cli.errors import BadArgumentError
from twofold_cli.plan import NoPlanError, chosen_profiles, model_source, plan
from twofold_sim.planning import Plan
from twofold_sim.profiles import Profile, StepCosts, save_profile

yaml = pytest.importorskip("yaml")

PROFILE = Profile(
    name="quick-tp1",
    source="made up",
    steps=StepCosts(base_seconds=0.01, per_prefill_token=0.001, per_sequence=0.002),
    kv_capacity_tokens=100_000,
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    save_profile(PROFILE, tmp_path / "profile.json")
    with (tmp_path / "trace.csv").open("w") as trace:
        trace.write("Timestamp,Request tokens,Response tokens\n")
        trace.writelines(f"{number},{150 + number % 100},8\n" for number in range(100))
    return tmp_path


def run(files: Path, *arguments: str, ttft_ms: str = "500") -> Any:
    app = typer.Typer()
    app.command()(plan)
    return CliRunner().invoke(
        app,
        [
            *("--trace", str(files / "trace.csv"), "--profile", str(files / "profile.json")),
            *("--slo-ttft-ms", ttft_ms, "--slo-tpot-ms", "30", "--requests", "50"),
            *("--seeds", "0", *arguments),
        ],
    )


def test_the_resource_follows_the_table_on_stdout(files: Path) -> None:
    result = run(files, "--gpus", "3", "--model", "hf://some/model")

    assert result.exit_code == 0, result.exception
    table, resource = result.stdout.split("---\n", 1)[0], result.stdout.rsplit("\n---\n", 1)[1]
    assert "| layout" in table
    assert yaml.safe_load(resource)["metadata"] == {"name": "quick"}
    assert yaml.safe_load(resource)["spec"]["model"]["source"] == "hf://some/model"
    assert "one request at a time" in result.stderr


def test_files_get_the_resource_and_all_that_was_found(files: Path) -> None:
    resource, found = files / "service.yaml", files / "plan.json"
    result = run(files, "--gpus", "2", "--output", str(resource), "--json", str(found))

    assert result.exit_code == 0, result.exception
    spec = yaml.safe_load(resource.read_text())["spec"]
    assert "apiVersion" not in result.stdout
    best = msgspec.json.decode(found.read_bytes(), type=Plan).best
    assert spec["decode"]["replicas"] == best.layout.decode_count
    assert json.loads(found.read_bytes())["gpu_count"] == 2


def test_an_slo_that_cannot_be_met_ends_without_a_plan(files: Path) -> None:
    result = run(files, "--gpus", "2", ttft_ms="50")

    assert isinstance(result.exception, NoPlanError)
    assert "a TTFT of 50 ms cannot be met" in str(result.exception)
    assert result.exception.exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--gpus", "2", "--tp", "1,2"), "--tp has 2, and no profile is of that"),
        (("--gpus", "2", "--tp", "one"), "--tp is 'one'"),
        (("--gpus", "2", "--profile", "nonsense"), "'nonsense' is no built-in profile"),
        (("--gpus", "2", "--trace", "nowhere.csv"), "nowhere.csv"),
        (("--gpus", "2", "--max-prompt-tokens", "9", "--on-long", "drop"), "no prompt of it has 9"),
        (("--gpus", "2", "--output", "/nowhere/at/all"), "--output: /nowhere/at/all is no file"),
        (("--gpus", "2", "--json", "/nowhere/at/all"), "--json: /nowhere/at/all is no file"),
        (("--gpus", "1", "--tp", "1", "--seeds", "x"), "--seeds is 'x'"),
        (("--gpus", "2", "--slo-tpot-ms", "inf"), "--slo-tpot-ms is inf"),
        (("--gpus", "2", "--slo-ttft-ms", "3600001"), "a number of at most 3,600,000"),
        (("--gpus", "2", "--model", "smollm2"), "--model: 'smollm2' is none of hf://"),
        (("--gpus", "2", "--model", "hf:///a"), "--model: 'hf:///a' does not read"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(
    files: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = run(files, *arguments)

    assert isinstance(result.exception, BadArgumentError)
    assert said in str(result.exception)
    assert "one request at a time" not in result.stderr


def write_long_trace(files: Path, long_count: int) -> None:
    """Write requests of which so many of a hundred are too long for a context of 400 tokens."""
    save_profile(msgspec.structs.replace(PROFILE, max_model_tokens=400), files / "profile.json")
    with (files / "trace.csv").open("w") as trace:
        trace.write("Timestamp,Request tokens,Response tokens\n")
        trace.writelines(
            f"{number},{350 if number < long_count else 200},8\n" for number in range(100)
        )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"block_tokens": 10}, "has blocks of 10 tokens, which neither divide 512"),
        ({"max_model_tokens": 1}, "max_model_tokens is 1, which has no room"),
    ],
)
def test_a_profile_that_cannot_be_run_is_said_to_be(
    files: Path, fields: dict[str, int], said: str
) -> None:
    told = msgspec.to_builtins(PROFILE) | fields
    (files / "profile.json").write_bytes(msgspec.json.encode(told))
    result = run(files, "--gpus", "2")

    assert isinstance(result.exception, BadArgumentError)
    assert said in str(result.exception)


def test_how_many_prompts_are_cut_is_said_with_the_plan(files: Path) -> None:
    write_long_trace(files, 50)
    result = run(files, "--gpus", "2")

    assert result.exit_code == 0, result.exception
    text, resource = result.stdout.split("---\napi", 1)[0], result.stdout
    assert "50 of 100 prompts (50.0%) have more than 300 tokens and are cut to that" in text
    assert "# 50 of 100 prompts" in resource


def test_the_context_is_no_longer_than_the_cache(files: Path) -> None:
    write_long_trace(files, 50)
    small = msgspec.structs.replace(PROFILE, kv_capacity_tokens=400)
    save_profile(small, files / "profile.json")
    result = run(files, "--gpus", "2")

    assert result.exit_code == 0, result.exception
    assert "50 of 100 prompts (50.0%) have more than 300 tokens" in result.stdout
    resource = yaml.safe_load(result.stdout.rsplit("\n---\n", 1)[1])
    assert resource["spec"]["model"]["maxModelLen"] == 400


@pytest.mark.parametrize("on_long", ["truncate", "drop"])
def test_nothing_is_planned_if_most_prompts_would_be_others(files: Path, on_long: str) -> None:
    write_long_trace(files, 51)
    result = run(files, "--gpus", "2", "--on-long", on_long)

    assert isinstance(result.exception, BadArgumentError)
    assert "51 of 100 prompts (51.0%) have more than 300 tokens" in str(result.exception)
    assert "--max-prompt-tokens 300" in str(result.exception)


def test_most_prompts_are_cut_if_that_is_asked_for(files: Path) -> None:
    write_long_trace(files, 51)
    result = run(files, "--gpus", "2", "--max-prompt-tokens", "300")

    assert result.exit_code == 0, result.exception
    assert "51 of 100 prompts" in result.stdout


def test_a_name_without_its_parallelism_stands_for_all_of_them() -> None:
    everyone = chosen_profiles(["llama2-70b-h100"], None)
    some = chosen_profiles(["llama2-70b-h100"], "8,2")
    one = chosen_profiles(["llama2-70b-h100-tp4"], None)

    assert [profile.gpu_count for profile in everyone] == [2, 4, 8]
    assert [profile.gpu_count for profile in some] == [2, 8]
    assert [profile.name for profile in one] == ["llama2-70b-h100-tp4"]


@pytest.mark.parametrize(
    ("model", "source"),
    [
        ("Qwen/Qwen3-8B", "hf://Qwen/Qwen3-8B"),
        ("hf://Qwen/Qwen3-8B", "hf://Qwen/Qwen3-8B"),
        ("/models/qwen", "/models/qwen"),
    ],
)
def test_a_model_is_called_as_an_llm_service_does(model: str, source: str) -> None:
    assert model_source(model) == source


def test_two_kinds_of_engines_on_as_many_gpus_are_refused() -> None:
    with pytest.raises(BadArgumentError, match=r"llama2-70b-a100-tp2 and llama2-70b-h100-tp2"):
        chosen_profiles(["llama2-70b-a100", "llama2-70b-h100"], None)
