"""Least squares without negative coefficients."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from twofold_sim.profiles import StepCosts, TransferCosts
from twofold_sim.profiles.fit import (
    Fetch,
    Sample,
    fit_step_costs,
    fit_transfer_costs,
    solve_nonnegative,
)

COSTS = StepCosts(
    base_seconds=0.02,
    per_prefill_token=1e-4,
    per_prefill_pair=2e-9,
    per_sequence=3e-4,
    per_context_token=1e-7,
    hidden_prefill_tokens=128,
)


def prompt(tokens: int, costs: StepCosts = COSTS, request_seconds: float = 0.0) -> Sample:
    pairs = tokens * (tokens + 1) / 2
    seconds = costs.seconds(tokens, pairs) + request_seconds
    return Sample(seconds, prefill_tokens=tokens, prefill_pairs=pairs, request_count=1)


def batch(sequences: int, context: int, costs: StepCosts = COSTS) -> Sample:
    seconds = costs.seconds(sequence_count=sequences, context_tokens=context)
    return Sample(seconds, sequence_count=sequences, context_tokens=context)


PROMPTS = (32, 64, 256, 1000, 2000, 6000, 20_000)
BATCHES = ((1, 100), (4, 4000), (8, 9000), (32, 20_000), (64, 300_000))


def test_costs_that_made_the_seconds_are_found_again() -> None:
    samples = [prompt(n, request_seconds=0.005) for n in PROMPTS]
    samples += [batch(*sizes) for sizes in BATCHES]

    fit = fit_step_costs(samples)

    assert fit.steps.hidden_prefill_tokens == 128
    for name in COSTS.__struct_fields__:
        assert getattr(fit.steps, name) == pytest.approx(getattr(COSTS, name), rel=1e-6)
    assert fit.request_seconds == pytest.approx(0.005)
    assert fit.residuals.p90 < 1e-6
    assert [fit.predict(sample) for sample in samples] == pytest.approx(
        [sample.seconds for sample in samples]
    )


def test_a_sample_that_was_disturbed_hardly_bends_the_others() -> None:
    fit = fit_step_costs([Sample(1.0), Sample(1.0), Sample(4.0)])

    # Twice the error of the two is as much as the third pulls: the limit of an error, over its 4 s.
    assert fit.steps.base_seconds == pytest.approx(1 + 0.05 / 4 / 2, abs=1e-4)


def test_errors_are_relative() -> None:
    fit = fit_step_costs([Sample(1.00), Sample(1.04)])

    assert fit.steps.base_seconds == pytest.approx((1 + 1 / 1.04) / (1 + 1 / 1.04**2))


def test_residuals_are_shares_of_what_was_measured() -> None:
    fit = fit_step_costs([Sample(1.0), Sample(1.0), Sample(4.0)])
    base = fit.steps.base_seconds

    assert fit.residuals.median == pytest.approx(base - 1.0)
    assert fit.residuals.p90 == pytest.approx((base - 1) * 0.2 + (1 - base / 4) * 0.8)
    assert fit.residuals.sample_count == 3


def test_a_prompt_in_several_steps_hides_tokens_in_each() -> None:
    costs = StepCosts(base_seconds=1.0, per_prefill_token=0.01, hidden_prefill_tokens=64)
    samples = [
        Sample(2 * costs.seconds(500), prefill_tokens=1000, step_count=2),
        *(Sample(costs.seconds(n), prefill_tokens=n) for n in (10, 64, 100, 300)),
    ]

    fit = fit_step_costs(samples)

    assert fit.steps.hidden_prefill_tokens == 64
    assert fit.steps.per_prefill_token == pytest.approx(0.01)


@pytest.mark.parametrize("samples", [[], [Sample(0.0)]])
def test_what_took_no_time_cannot_be_fitted(samples: list[Sample]) -> None:
    with pytest.raises(ValueError, match="more than 0 seconds"):
        fit_step_costs(samples)


def test_a_cost_that_would_be_negative_is_none() -> None:
    matrix = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 3.0]])

    solution, error = solve_nonnegative(matrix, np.array([3.0, 2.0, 1.0]))

    assert solution == pytest.approx([2.0, 0.0])
    assert error == pytest.approx(2.0)


NUMBERS = st.floats(-10.0, 10.0).map(lambda number: round(number, 2))


@given(arrays(np.float64, (6, 3), elements=NUMBERS), arrays(np.float64, 6, elements=NUMBERS))
def test_no_step_to_the_side_makes_the_error_smaller(
    matrix: "np.ndarray[tuple[int, int], np.dtype[np.float64]]",
    target: "np.ndarray[tuple[int], np.dtype[np.float64]]",
) -> None:
    solution, error = solve_nonnegative(matrix, target)

    assert solution.min() >= 0.0
    assert error == pytest.approx(float(np.sum((matrix @ solution - target) ** 2)), abs=1e-6)
    random = Random(0)
    for _ in range(20):
        other = np.maximum(solution + [random.uniform(-0.5, 0.5) for _ in range(3)], 0.0)
        assert np.sum((matrix @ other - target) ** 2) >= error - 1e-6


def test_transfers_are_a_latency_and_a_rate() -> None:
    seconds = {n: 0.01 + 2e-6 * n for n in (64, 500, 4000, 9000)}
    costs = fit_transfer_costs([Fetch(n, took, took + 0.03) for n, took in seconds.items()])

    assert costs.latency_seconds == pytest.approx(0.01)
    assert costs.per_token == pytest.approx(2e-6)


def test_transfers_that_seem_to_take_less_than_nothing_take_none() -> None:
    fetches = [Fetch(n, -0.002, 0.1) for n in (64, 500, 4000)]

    assert fit_transfer_costs(fetches) == TransferCosts()


def test_a_transfer_that_cannot_be_seen_does_not_hide_those_that_can() -> None:
    fetches = [Fetch(10, -1e-4, 0.1), *(Fetch(n, 1e-5 * n, 0.1 + 1e-5 * n) for n in (4000, 9000))]

    assert fit_transfer_costs(fetches).per_token == pytest.approx(1e-5, rel=0.02)


def test_no_transfers_cannot_be_fitted() -> None:
    with pytest.raises(ValueError, match="fetches"):
        fit_transfer_costs([])
