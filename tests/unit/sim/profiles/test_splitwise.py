"""Profiles out of Splitwise's table."""

from pathlib import Path

import pytest

from twofold_sim.profiles import load_built_in_profiles, load_profile
from twofold_sim.profiles.splitwise import MODELS, fit_splitwise

TABLE = Path(__file__).parents[5] / "shared" / "traces" / "splitwise_perf_model.csv"
"""Data that is not part of the project may lie next to the checkout."""

HEADER = "model,hardware,prompt_size,batch_size,token_size,prompt_time,token_time,tensor_parallel"


def table(folder: Path, *rows: str) -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def row(prompt: int, batch: int, prompt_ms: float, token_ms: float = 40.0) -> str:
    return f"llama2-70b,h100-80gb,{prompt},{batch},128,{prompt_ms},{token_ms},4"


def test_milliseconds_become_seconds_and_the_median_of_the_runs_counts(tmp_path: Path) -> None:
    rows = [row(1000, 1, 140.0), row(1000, 1, 140.0), row(1000, 1, 9999.0), row(2000, 1, 240.0)]

    (profile,) = fit_splitwise(table(tmp_path, *rows))

    assert profile.name == "llama2-70b-h100-tp4"
    assert profile.gpu_count == 4
    assert profile.steps.seconds(1000, 1000 * 1001 / 2) == pytest.approx(0.140, rel=0.01)
    assert profile.steps.seconds(sequence_count=1, context_tokens=1000) == pytest.approx(0.040)


def test_a_batch_that_was_computed_in_pieces_does_not_count(tmp_path: Path) -> None:
    rows = [row(500, 1, 90.0), row(500, 8, 440.0), row(500, 64, 100.0, 999.0)]

    (profile,) = fit_splitwise(table(tmp_path, *rows))

    assert profile.steps.seconds(sequence_count=64, context_tokens=40_000) < 0.1


def test_other_models_and_hardware_are_left_out(tmp_path: Path) -> None:
    capped = row(500, 1, 90.0).replace("h100-80gb", "h100-80gb-pcap")

    profiles = fit_splitwise(table(tmp_path, capped, row(500, 1, 90.0)))

    assert [profile.name for profile in profiles] == ["llama2-70b-h100-tp4"]


def test_a_token_of_grouped_queries_takes_what_the_models_cards_say() -> None:
    assert MODELS["llama2-70b"].kv_token_bytes == 327_680
    assert MODELS["bloom-176b"].kv_token_bytes == 2 * 2 * 70 * 14_336


def test_the_memory_that_the_weights_leave_is_for_tokens() -> None:
    assert load_profile("llama2-70b-a100-tp2").kv_capacity_tokens == pytest.approx(50_800, rel=0.01)
    assert load_profile("bloom-176b-h100-tp8").kv_capacity_tokens == pytest.approx(66_000, rel=0.01)


def test_the_costs_hold_for_longer_requests_than_the_models_take() -> None:
    assert load_profile("llama2-70b-h100-tp4").trained_tokens == 4096
    assert load_profile("bloom-176b-a100-tp8").trained_tokens == 2048


def test_a_faster_gpu_and_more_of_them_are_faster() -> None:
    def seconds(name: str) -> float:
        return load_profile(name).steps.seconds(2000, 2000 * 2001 / 2)

    assert seconds("llama2-70b-h100-tp4") < 0.6 * seconds("llama2-70b-a100-tp4")
    assert seconds("llama2-70b-h100-tp8") < seconds("llama2-70b-h100-tp4")


@pytest.mark.skipif(not TABLE.exists(), reason="Splitwise's table is not beside the checkout")
def test_the_profiles_that_are_shipped_are_those_of_the_table() -> None:
    shipped = {profile.name: profile for profile in load_built_in_profiles()}

    for fitted in fit_splitwise(TABLE):
        profile = shipped[fitted.name]
        assert profile.source == fitted.source
        assert profile.kv_capacity_tokens == fitted.kv_capacity_tokens
        assert profile.transfer == fitted.transfer
        assert profile.trained_tokens == fitted.trained_tokens
        for name in fitted.steps.__struct_fields__:
            assert getattr(profile.steps, name) == pytest.approx(getattr(fitted.steps, name))
