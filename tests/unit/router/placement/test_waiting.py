"""Until when somebody who waits is on time."""

import pytest

from twofold_router.placement.testing import make_waiting


def test_the_requests_own_target_comes_before_the_settings() -> None:
    assert make_waiting(slo_seconds=5.0, arrived_at=10.0).on_time_until == 15.0
    own = make_waiting(slo_seconds=5.0, arrived_at=10.0, ttft_slo_seconds=1.0)
    assert own.on_time_until == 11.0


def test_a_target_may_grow_with_the_prompt() -> None:
    long = make_waiting(slo_seconds=5.0, prompt_tokens=1000.0, ttft_slo_seconds_per_token=0.001)

    assert long.on_time_until == pytest.approx(6.0)


def test_a_prompt_has_a_token_at_least() -> None:
    assert make_waiting(prompt_tokens=0.0).prompt_tokens == 1.0
