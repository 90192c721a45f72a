"""What ``twofold bench`` makes of its arguments."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from twofold_cli.bench import app, chosen_policies
from twofold_cli.errors import BadArgumentError
from twofold_sim.profiles import Profile, StepCosts, save_profile


def run(folder: Path, *arguments: str, rows: str = "1,100,5\n2,700,5\n3,800,5\n") -> Any:
    path = folder / "trace.csv"
    path.write_text(f"Timestamp,Request tokens,Response tokens\n{rows}")
    command = ["replay", "--trace", str(path), "--qps", "1", "--policy", "twofold", *arguments]
    return CliRunner().invoke(app, command)


def test_how_many_prompts_are_cut_is_said_below_the_table(tmp_path: Path) -> None:
    cut = run(tmp_path, "--max-prompt-tokens", "600", "--seeds", "0,1")
    whole = run(tmp_path, "--max-prompt-tokens", "800")

    assert cut.exit_code == 0, cut.exception
    said = "2 of 3 prompts (66.7%) have more than 600 tokens and are cut to that."
    assert cut.stdout.splitlines().count(said) == 1
    assert " prompts (" not in whole.stdout


def test_prompts_are_cut_to_what_the_cache_of_a_profile_holds(tmp_path: Path) -> None:
    profile = Profile(
        name="small",
        source="made up",
        steps=StepCosts(base_seconds=0.01),
        kv_capacity_tokens=400,
    )
    save_profile(profile, tmp_path / "profile.json")
    result = run(tmp_path, "--profile", str(tmp_path / "profile.json"))

    assert result.exit_code == 0, result.exception
    assert "2 of 3 prompts (66.7%) have more than 300 tokens" in result.stdout


def test_it_is_said_when_fewer_requests_are_measured_than_asked_for(tmp_path: Path) -> None:
    fewer = run(tmp_path, "--requests", "1000", "--warm-up", "1", "--seeds", "0,1")
    whole = run(tmp_path, "--requests", "3")

    said = "2 requests are measured of the 1,000 that were asked for: there are no more of trace."
    assert fewer.exit_code == 0, fewer.exception
    assert fewer.stdout.splitlines().count(said) == 1
    assert "asked for" not in whole.stdout


def test_requests_that_take_no_time_to_arrive_get_no_goodput(tmp_path: Path) -> None:
    result = run(tmp_path, "--qps", "1,1000", rows="5,100,5\n5,100,5\n")

    assert isinstance(result.exception, BadArgumentError)
    assert "arrivals at a single moment, 2 of them" in str(result.exception)


def test_a_generated_workload_is_of_the_shape_that_is_told(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    told = ("--trace", "synthetic-zipf", "--requests", "20", "--json", str(path))
    shape = "prefix-blocks=0,least-prompt-tokens=77,most-prompt-tokens=77"

    result = run(tmp_path, *told, "--shape", shape)

    assert result.exit_code == 0, result.exception
    [record] = json.loads(path.read_text())["records"]
    assert json.loads(record["setup"]["shape"])["prefix_blocks"] == 0
    assert record["measures"]["everyone"]["longest_prompt_tokens"] == 77


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--shape", "gap-variation=2"), "only synthetic-zipf has a shape"),
        (("--shape", "burst=2"), "'burst=2' is not one of gap-variation"),
        (("--slo-tpot-ms", "50"), "--slo-tpot-ms needs a --profile"),
        (("--profile", "smollm2-cpu", "--cache-tokens", "1000000"), "--cache-tokens is for pref"),
        (("--profile", "smollm2-cpu", "--seconds-per-token", "1"), "--seconds-per-token is for"),
        (("--speeds", "1,0.0001"), "a speed of 0.0001, and must have 0.001 or more"),
        (("--incident", "join:d0@5"), "d0 is for decode, and this cluster for prefill"),
    ],
)
def test_what_has_no_meaning_for_a_cluster_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = run(tmp_path, *arguments)

    assert isinstance(result.exception, BadArgumentError)
    assert said in str(result.exception)


def test_the_costs_of_prefill_workers_are_as_told(tmp_path: Path) -> None:
    path = tmp_path / "records.json"
    told = ("--cache-tokens", "600", "--seconds-per-token", "0.5", "--json", str(path))
    result = run(tmp_path, *told)

    assert result.exit_code == 0, result.exception
    [record] = json.loads(path.read_bytes())["records"]
    assert (record["setup"]["cache_tokens"], record["setup"]["seconds_per_token"]) == (600, 0.5)


def test_all_policies_are_those_of_the_routers_and_no_ablation() -> None:
    names = list(chosen_policies("all"))

    assert {"twofold", "dual-map", "preble", "sglang-cache-aware"} <= set(names)
    assert "twofold-by-arrival" not in names


def test_policies_are_chosen_by_name_ablations_too() -> None:
    assert list(chosen_policies("twofold-by-arrival,twofold")) == ["twofold-by-arrival", "twofold"]


def test_an_unknown_policy_shows_those_that_are_known() -> None:
    with pytest.raises(BadArgumentError, match="'fastest' is no policy; known are twofold, "):
        chosen_policies("twofold,fastest")


def test_other_commands_do_not_wait_for_the_simulator() -> None:
    heavy = ["twofold_sim.virtual", "twofold_sim.measuring", "matplotlib", "numpy"]
    code = f"import sys, twofold_cli.__main__; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
