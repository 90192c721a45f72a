"""Faster, shorter and fewer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_sim.workloads import (
    Prompt,
    WorkloadError,
    at_qps,
    count_long,
    first,
    no_longer_than,
    qps_of,
)


def prompt(at: float, tokens: int = 1000) -> Prompt:
    blocks = tuple(range(-(-tokens // 512)))
    return Prompt(at=at, prompt_tokens=tokens, output_tokens=5, block_ids=blocks)


def test_the_spacing_is_scaled_and_keeps_its_proportions() -> None:
    scaled = at_qps([prompt(10.0), prompt(11.0), prompt(14.0)], 1.5)

    assert [each.at for each in scaled] == [0.0, 0.5, 2.0]


@given(
    st.lists(st.floats(0, 1e6), min_size=2).filter(lambda times: max(times) - min(times) > 1e-3),
    st.floats(0.1, 1000),
)
def test_the_scaled_rate_is_what_was_asked_for(times: list[float], qps: float) -> None:
    scaled = at_qps([prompt(at) for at in sorted(times)], qps)

    assert scaled[0].at == 0.0
    assert qps_of(scaled) == pytest.approx(qps)


@pytest.mark.parametrize("count", [1, 3])
def test_prompts_that_all_arrive_at_once_have_no_rate(count: int) -> None:
    with pytest.raises(WorkloadError, match=f"no rate of 2 a second .* {count} of them"):
        at_qps([prompt(3.0)] * count, 2.0)
    assert at_qps([], 2.0) == []


def test_long_prompts_are_truncated_with_their_blocks() -> None:
    short, cut = no_longer_than([prompt(0.0, 100), prompt(1.0, 3000)], 1025, "truncate")

    assert short == prompt(0.0, 100)
    assert cut == prompt(1.0, 1025)


def test_long_prompts_are_dropped_when_told() -> None:
    kept = no_longer_than([prompt(0.0, 1025), prompt(1.0, 1026)], 1025, "drop")

    assert [each.prompt_tokens for each in kept] == [1025]


def test_prompts_that_are_too_long_are_counted() -> None:
    prompts = [prompt(0.0, 1025), prompt(1.0, 1026), prompt(2.0, 3000), prompt(3.0, 5)]

    assert str(count_long(prompts, 1025, "truncate")) == (
        "2 of 4 prompts (50.0%) have more than 1,025 tokens and are cut to that"
    )
    assert str(count_long(prompts, 1025, "drop")).endswith("are left out")
    assert count_long(prompts, 3000, "drop") is None


def test_the_first_after_some_begin_at_zero() -> None:
    taken = first([prompt(1.0), prompt(2.0), prompt(4.0), prompt(8.0)], 2, skip=1)

    assert [each.at for each in taken] == [0.0, 2.0]
    assert len(first([prompt(1.0)], None)) == 1
    assert first([prompt(1.0)], None, skip=1) == []
