"""How long a decode worker takes for one token of every request in its batch.

A decode step reads all weights once, does a little per sequence (its row of every matrix product,
sampling), and reads the KV cache of every token in the batch, all at the memory's bandwidth. So

    seconds = a + b * batch + c * context tokens in the batch

Splitwise (arXiv 2311.18677) measures the time between tokens as nearly flat in small batches and
growing with the tokens of the batch beyond, and models it piecewise linearly. A decode worker stays
in a piece for a while, so one line that forgets is enough here.
"""

import math
from typing import Final, NamedTuple

MEMORY_SAMPLES = 64
POOL_MEMORY_SAMPLES = 256
"""An observation's weight is down to 1/e after as many newer ones."""

MIN_OWN_SAMPLES = 5
"""A worker with fewer is judged by its pool."""

TRUST_SECONDS = 120.0
"""A worker that finished nothing for as long is judged by its pool again, and learns anew. Who is
believed slow gets nothing to do, and would otherwise be believed slow for ever."""

LEAST_SECONDS = 1e-4
"""No engine makes 10,000 steps a second; and steps are divided by."""

CLIP = 4.0
"""A residual counts for as much as this many typical ones, however large it is."""

CHANGED_AFTER = 4
POOL_CHANGED_AFTER = 16
"""As many in a row that are clipped to the same side are no outliers: the worker has changed. The
requests of one slow worker may well end together, and are no change of the pool."""

_KEPT_AFTER_CHANGE = 0.03
"""Share of its weight that an observation from before a change keeps."""

_TYPICAL_GAIN = 0.1
_FIRST_TYPICAL = 0.25
_LEAST_TYPICAL = 0.01
"""As shares of the prediction, what residual is typical at first and at the least."""

_RIDGE = 0.3
"""Weight of the prior's coefficients, in observations. What the data do not tell apart, such as a
batch and a context that always grow together, stays in the prior's proportions."""

_BATCH_UNIT = 32.0
_CONTEXT_UNIT = 65536.0
"""Scale both to about 1, so that one ridge suits all coefficients."""

_SWEEPS = 3
"""Of coordinate descent at an observation. It starts from the last solution, so few are enough."""


class StepModel(NamedTuple):
    """Seconds a step, per sequence in the batch, and per token of context in the batch."""

    seconds: float
    seconds_per_sequence: float
    seconds_per_context_token: float


DEFAULT_MODEL = StepModel(0.008, 0.0001, 4e-8)
"""Of a model of 8 billion parameters on one GPU of 2 to 3 TB/s: 16 GB of weights, 128 KiB of KV
cache a token. An order of magnitude, until the pool has answered a few requests."""


class StepTimes:
    """Predicts the time per token of one worker, or of a pool.

    What a worker learns is taught to its pool, which is what it is judged by before it is known.
    """

    __slots__ = ("_fit", "_learned_at", "_pool", "_trusted_until", "model")

    model: StepModel
    """As learned from its own requests alone, and from the prior."""

    def __init__(self, pool: "StepTimes | None" = None) -> None:
        """None for *pool* makes a pool's own, whose prior is ``DEFAULT_MODEL``."""
        self._pool: Final = pool
        self.model = DEFAULT_MODEL
        self._fit = self._new_fit(DEFAULT_MODEL)
        self._learned_at = -math.inf
        self._trusted_until = -math.inf

    def predict(self, batch: float, context_tokens: float, now: float) -> float:
        """Predict the seconds per token in a *batch* of so many with so much context in all."""
        seconds, per_sequence, per_context_token = self.trusted(now)
        return seconds + per_sequence * batch + per_context_token * context_tokens

    def trusted(self, now: float) -> StepModel:
        """Return the model to judge by: its own, or the pool's while it is not known well."""
        if now > self._trusted_until and self._pool is not None:
            return self._pool.model
        return self.model

    def observe(
        self, seconds_per_token: float, batch: float, context_tokens: float, now: float
    ) -> None:
        """Take in what one request saw; *batch* and *context_tokens* as they were meanwhile."""
        if not 0.0 < seconds_per_token < math.inf:
            return
        prior = DEFAULT_MODEL
        if self._pool is not None:
            self._pool.observe(seconds_per_token, batch, context_tokens, now)
            prior = self._pool.model
            if now > self._learned_at + TRUST_SECONDS:
                self._fit = self._new_fit(prior)
        self._fit.learn(seconds_per_token, batch, context_tokens, prior)
        self._learned_at = now
        self.model = self._fit.model()
        if self._fit.observations >= MIN_OWN_SAMPLES:
            self._trusted_until = now + TRUST_SECONDS

    def _new_fit(self, start: StepModel) -> "_RobustFit":
        if self._pool is None:
            return _RobustFit(start, POOL_MEMORY_SAMPLES, POOL_CHANGED_AFTER)
        return _RobustFit(start, MEMORY_SAMPLES, CHANGED_AFTER)


class _RobustFit:
    """Least squares with forgetting, coefficients of zero or more, and clipped residuals.

    Holds the normal equations, nine sums whatever the number of observations, and solves them by
    coordinate descent, written out because every answer is learned from. Clipping is Huber's loss,
    one step at a time.
    """

    __slots__ = (
        "_changed_after",
        "_clipped_in_a_row",
        "_coefficients",
        "_keep",
        "_sums",
        "_typical",
        "observations",
    )

    def __init__(self, start: StepModel, memory_samples: int, changed_after: int) -> None:
        self._keep = 1.0 - 1.0 / memory_samples
        self._changed_after = changed_after
        self._coefficients = _scaled(start)
        self._sums = (0.0,) * 9
        """Over the observations, of the weights and of what they weigh: x, y, x x, x y, y y, t, t x
        and t y, with x the scaled batch, y the scaled context and t the time of a step."""
        self._typical: float | None = None
        self._clipped_in_a_row = 0  # negative for those that were far too fast
        self.observations = 0

    def model(self) -> StepModel:
        seconds, per_batch_unit, per_context_unit = self._coefficients
        return StepModel(
            max(seconds, LEAST_SECONDS),
            per_batch_unit / _BATCH_UNIT,
            per_context_unit / _CONTEXT_UNIT,
        )

    def learn(self, seconds: float, batch: float, context: float, prior: StepModel) -> None:
        x, y = batch / _BATCH_UNIT, context / _CONTEXT_UNIT
        a, b, c = self._coefficients
        predicted = a + b * x + c * y
        residual, keep = self._weigh(seconds - predicted, predicted)
        t = predicted + residual
        n, sx, sy, sxx, sxy, syy, st, stx, sty = self._sums
        self._sums = (
            *(keep * n + 1.0, keep * sx + x, keep * sy + y),
            *(keep * sxx + x * x, keep * sxy + x * y, keep * syy + y * y),
            *(keep * st + t, keep * stx + t * x, keep * sty + t * y),
        )
        self.observations += 1
        self._solve(prior)

    def _weigh(self, residual: float, predicted: float) -> tuple[float, float]:
        """Return how much of *residual* counts, and how much of all that was before it."""
        if self._typical is None:
            self._typical = _FIRST_TYPICAL * predicted
        limit = CLIP * self._typical
        clipped = max(-limit, min(limit, residual))
        side = (residual > limit) - (residual < -limit)
        run = self._clipped_in_a_row
        self._clipped_in_a_row = (run if run * side > 0 else 0) + side
        if abs(self._clipped_in_a_row) >= self._changed_after:
            self._clipped_in_a_row = 0
            self._typical = abs(residual)
            return residual, _KEPT_AFTER_CHANGE
        self._typical += _TYPICAL_GAIN * (abs(clipped) - self._typical)
        self._typical = max(self._typical, _LEAST_TYPICAL * predicted)
        return clipped, self._keep

    def _solve(self, prior: StepModel) -> None:
        a, b, c = self._coefficients
        at_first, per_batch_unit, per_context_unit = _scaled(prior)
        n, sx, sy, sxx, sxy, syy, st, stx, sty = self._sums
        st += _RIDGE * at_first
        stx += _RIDGE * per_batch_unit
        sty += _RIDGE * per_context_unit
        for _ in range(_SWEEPS):
            a = max(0.0, (st - sx * b - sy * c) / (n + _RIDGE))
            b = max(0.0, (stx - sx * a - sxy * c) / (sxx + _RIDGE))
            c = max(0.0, (sty - sy * a - sxy * b) / (syy + _RIDGE))
        self._coefficients = (a, b, c)


def _scaled(model: StepModel) -> tuple[float, float, float]:
    seconds, per_sequence, per_context_token = model
    return seconds, per_sequence * _BATCH_UNIT, per_context_token * _CONTEXT_UNIT
