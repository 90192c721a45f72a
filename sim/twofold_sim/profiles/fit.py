"""Fits what steps cost to measurements, with the least relative errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from twofold_sim.profiles.profile import StepCosts, TransferCosts

HIDDEN_TOKENS = (0, *range(16, 513, 16))
"""What is tried for ``hidden_prefill_tokens``, in which the seconds are not linear."""

DAMPED_FROM = 0.05
"""Relative errors beyond count by their size, not by its square (Huber's loss): a sample that was
disturbed does not bend the others."""
_SWEEPS = 8
"""Of weighing by the last errors."""

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds that some steps took, and what they computed."""

    seconds: float
    prefill_tokens: float = 0.0
    prefill_pairs: float = 0.0
    sequence_count: float = 0.0
    context_tokens: float = 0.0
    """The sequences and their context, summed over the steps."""
    step_count: float = 1.0
    request_count: float = 0.0
    """How many times ``request_seconds`` is in the seconds."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """Seconds that the fetch of a prompt's blocks took."""

    tokens: float
    seconds: float
    """What is left of ``measured_seconds`` without the rest of leg 2; below zero if the rest took
    less than it should have."""
    measured_seconds: float
    """Until the first token of leg 2."""


@dataclass(frozen=True, slots=True)
class Residuals:
    """Relative errors of the fitted seconds, without their sign."""

    sample_count: int
    median: float
    p90: float


@dataclass(frozen=True, slots=True)
class Fit:
    steps: StepCosts
    request_seconds: float
    residuals: Residuals

    def predict(self, sample: Sample) -> float:
        """Return the seconds that *sample* should have taken."""
        steps = self.steps
        hidden = steps.hidden_prefill_tokens * sample.step_count
        return (
            steps.base_seconds * sample.step_count
            + steps.per_prefill_token * max(sample.prefill_tokens - hidden, 0.0)
            + steps.per_prefill_pair * sample.prefill_pairs
            + steps.per_sequence * sample.sequence_count
            + steps.per_context_token * sample.context_tokens
            + self.request_seconds * sample.request_count
        )


def fit_step_costs(samples: Sequence[Sample]) -> Fit:
    """Return the costs, none below zero, with the least relative errors.

    Raises:
        ValueError: there are no samples, or one that took no time.
    """
    if not samples or min(sample.seconds for sample in samples) <= 0.0:
        raise ValueError("samples of more than 0 seconds are needed to fit")
    ones = np.ones(len(samples))
    fits = [(hidden, *_fit_damped(_matrix(samples, hidden), ones)) for hidden in HIDDEN_TOKENS]
    hidden, coefficients, errors = min(fits, key=lambda fit: _loss(fit[2]))
    base, token, pair, sequence, context, request = (float(value) for value in coefficients)
    return Fit(
        StepCosts(
            base_seconds=base,
            per_prefill_token=token,
            per_prefill_pair=pair,
            per_sequence=sequence,
            per_context_token=context,
            hidden_prefill_tokens=hidden,
        ),
        request,
        Residuals(len(samples), float(np.median(errors)), float(np.quantile(errors, 0.9))),
    )


def fit_transfer_costs(fetches: Sequence[Fetch]) -> TransferCosts:
    """Return the costs of fetching, none below zero.

    Errors are shares of all that a fetch was measured with: where it is too short to be seen in
    that, it is about nothing, and may well seem to be less.

    Raises:
        ValueError: there are none, or one was measured with no time.
    """
    if not fetches or min(fetch.measured_seconds for fetch in fetches) <= 0.0:
        raise ValueError("fetches of more than 0 seconds are needed to fit")
    measured = np.array([fetch.measured_seconds for fetch in fetches])
    rows = np.array([[1.0, fetch.tokens] for fetch in fetches]) / measured[:, None]
    shares = np.array([fetch.seconds for fetch in fetches]) / measured
    (latency, per_token), _ = _fit_damped(rows, shares)
    return TransferCosts(latency_seconds=float(latency), per_token=float(per_token))


def solve_nonnegative(matrix: Matrix, target: Matrix) -> tuple[Matrix, float]:
    """Return the coefficients of 0 or more with the least squared error, and that error.

    The best solution is the ordinary one of those columns whose coefficients are above zero, so
    each choice of columns is tried: 63 for six of them.
    """
    scale = np.linalg.norm(matrix, axis=0)
    used = [column for column in range(matrix.shape[1]) if scale[column] > 0.0]
    scaled = matrix / np.where(scale > 0.0, scale, 1.0)
    gram, wanted = scaled.T @ scaled, scaled.T @ target
    best, least = np.zeros(matrix.shape[1]), 0.0
    for count in range(1, len(used) + 1):
        for columns in map(list, combinations(used, count)):
            try:
                solution = np.linalg.solve(gram[np.ix_(columns, columns)], wanted[columns])
            except np.linalg.LinAlgError:
                continue  # fewer of these columns do as well
            # At the solution the squared error is the target's less this.
            error = -float(solution @ wanted[columns])
            if solution.min() >= 0.0 and error < least:
                best, least = np.zeros(matrix.shape[1]), error
                best[columns] = solution / scale[columns]
    rest = matrix @ best - target
    return best, float(rest @ rest)


def _fit_damped(matrix: Matrix, target: Matrix) -> tuple[Matrix, Matrix]:
    """Return the coefficients of 0 or more that bring the rows near *target*, and the errors."""
    weights = np.ones(len(matrix))
    coefficients, errors = np.zeros(matrix.shape[1]), weights
    for _ in range(_SWEEPS):
        coefficients, _ = solve_nonnegative(matrix * weights[:, None], target * weights)
        errors = np.abs(matrix @ coefficients - target)
        weights = np.sqrt(DAMPED_FROM / np.maximum(errors, DAMPED_FROM))
    return coefficients, errors


def _loss(errors: Matrix) -> float:
    squares = np.minimum(errors, DAMPED_FROM) ** 2 / 2
    return float(np.sum(squares + DAMPED_FROM * np.maximum(errors - DAMPED_FROM, 0.0)))


def _matrix(samples: Sequence[Sample], hidden: int) -> Matrix:
    """Return a row for each sample, divided by its seconds: all should come to 1."""
    rows = np.array(
        [
            [
                sample.step_count,
                max(sample.prefill_tokens - hidden * sample.step_count, 0.0),
                sample.prefill_pairs,
                sample.sequence_count,
                sample.context_tokens,
                sample.request_count,
            ]
            for sample in samples
        ]
    )
    seconds = np.array([[sample.seconds] for sample in samples])
    divided: Matrix = rows / seconds
    return divided
