"""Prefills that end together are one sample of the speed."""

import pytest

from twofold_router.placement.prefill_meter import PrefillMeter
from twofold_router.placement.prefill_speed import PrefillSpeed


def measured(prefills: list[tuple[float, float, bool]]) -> float:
    speed = PrefillSpeed()
    meter = PrefillMeter(speed)
    for seconds, tokens, is_idle in prefills:
        meter.add(seconds, tokens, is_idle=is_idle)
    return speed.seconds_per_token


def test_prompts_of_one_step_are_measured_together() -> None:
    # Each step computes two prompts, and tells of them one right after the other.
    steps: list[tuple[float, float, bool]] = [
        (0.4, 1000.0, False),
        (0.001, 1000.0, False),
    ] * 20

    assert measured(steps) == pytest.approx(0.4 / 2000, rel=0.01)


def test_a_prompt_that_was_computed_alone_is_a_sample() -> None:
    assert measured([(0.5, 1000.0, True)] * 3) == pytest.approx(0.0005)
