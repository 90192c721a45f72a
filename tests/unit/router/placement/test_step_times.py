"""Time per token: what is learned from observations, and what is not."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_router.placement.step_times import (
    CHANGED_AFTER,
    DEFAULT_MODEL,
    LEAST_SECONDS,
    MIN_OWN_SAMPLES,
    TRUST_SECONDS,
    StepModel,
    StepTimes,
)

TRUTH = StepModel(0.012, 0.00025, 6e-8)
PLACES = [(1, 500), (16, 40_000), (64, 30_000), (64, 200_000), (128, 128_000)]


def seconds(model: StepModel, batch: float, context_tokens: float) -> float:
    return (
        model.seconds
        + model.seconds_per_sequence * batch
        + model.seconds_per_context_token * context_tokens
    )


def teach(
    times: StepTimes, model: StepModel, count: int, *, noise: float = 0.0, seed: int = 1
) -> None:
    """Let *times* observe as many requests on a worker that works as *model* says."""
    random = Random(seed)
    for _ in range(count):
        batch = random.uniform(1, 128)
        context_tokens = batch * random.uniform(200, 4000)
        factor = random.lognormvariate(0, noise)
        times.observe(factor * seconds(model, batch, context_tokens), batch, context_tokens, 0.0)


def worker() -> StepTimes:
    return StepTimes(StepTimes())


def times_slower(factor: float) -> StepModel:
    return StepModel(*(factor * coefficient for coefficient in TRUTH))


def test_the_default_holds_while_nothing_is_known() -> None:
    assert worker().predict(10, 1000, 0.0) == pytest.approx(seconds(DEFAULT_MODEL, 10, 1000))


def test_it_finds_the_coefficients_again() -> None:
    times = worker()

    teach(times, TRUTH, 300)

    assert times.model == pytest.approx(TRUTH, rel=0.01)


@pytest.mark.parametrize(("batch", "context_tokens"), PLACES)
def test_noise_of_a_tenth_costs_less_than_a_tenth(batch: int, context_tokens: int) -> None:
    times = worker()

    teach(times, TRUTH, 300, noise=0.1)

    expected = seconds(TRUTH, batch, context_tokens)
    assert times.predict(batch, context_tokens, 0.0) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("speed", [0.1, 10, 100])
def test_a_worker_far_from_the_default_is_known_after_ten_requests(speed: float) -> None:
    times = worker()

    teach(times, times_slower(speed), 10, noise=0.05)

    expected = speed * seconds(TRUTH, 32, 32_000)
    assert times.predict(32, 32_000, 0.0) == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(("batch", "context_tokens"), PLACES)
def test_an_outlier_of_a_hundred_times_changes_little(batch: int, context_tokens: int) -> None:
    times = worker()
    teach(times, TRUTH, 50, noise=0.05)
    before = times.predict(batch, context_tokens, 0.0)

    times.observe(100 * seconds(TRUTH, batch, context_tokens), batch, context_tokens, 0.0)

    assert times.predict(batch, context_tokens, 0.0) == pytest.approx(before, rel=0.05)


def test_a_worker_that_becomes_twice_as_slow_is_seen_after_few_requests() -> None:
    times = worker()
    teach(times, TRUTH, 300, noise=0.05)

    teach(times, times_slower(2), 6 * CHANGED_AFTER, noise=0.05, seed=2)

    expected = 2 * seconds(TRUTH, 32, 32_000)
    assert times.predict(32, 32_000, 0.0) == pytest.approx(expected, rel=0.15)


def test_outliers_to_both_sides_are_no_change() -> None:
    times = worker()
    teach(times, TRUTH, 300, noise=0.05)
    before = times.predict(32, 32_000, 0.0)

    for factor in (100, 100, 100, 0.01, 100, 100, 100):
        times.observe(factor * seconds(TRUTH, 32, 32_000), 32, 32_000, 0.0)

    assert times.predict(32, 32_000, 0.0) == pytest.approx(before, rel=0.25)


def test_a_worker_is_judged_by_its_pool_until_it_has_answered_a_few() -> None:
    pool = StepTimes()
    teach(StepTimes(pool), TRUTH, 100)
    slow = StepTimes(pool)

    teach(slow, times_slower(3), MIN_OWN_SAMPLES - 1)
    judged = slow.predict(32, 32_000, 0.0)
    pools = pool.predict(32, 32_000, 0.0)
    teach(slow, times_slower(3), 10)

    assert judged == pools
    assert pools == pytest.approx(seconds(TRUTH, 32, 32_000), rel=0.1)
    assert slow.predict(32, 32_000, 0.0) == pytest.approx(3 * pools, rel=0.2)


def test_a_worker_believed_slow_is_given_another_chance() -> None:
    pool = StepTimes()
    teach(StepTimes(pool), TRUTH, 100)
    slow = StepTimes(pool)
    teach(slow, times_slower(5), 10)

    believed = slow.predict(32, 32_000, TRUST_SECONDS)
    forgiven = slow.predict(32, 32_000, TRUST_SECONDS + 1)
    pools = pool.predict(32, 32_000, TRUST_SECONDS + 1)
    for _ in range(MIN_OWN_SAMPLES):
        slow.observe(seconds(TRUTH, 32, 32_000), 32, 32_000, TRUST_SECONDS + 1)

    assert believed > 2 * forgiven
    assert forgiven == pools
    assert seconds(slow.model, 32, 32_000) == pytest.approx(seconds(TRUTH, 32, 32_000), rel=0.1)


def test_a_pool_forgets_nothing_while_it_is_idle() -> None:
    pool = StepTimes()
    teach(pool, TRUTH, 100)

    pool.observe(seconds(TRUTH, 32, 32_000), 32, 32_000, 10 * TRUST_SECONDS)

    assert pool.model == pytest.approx(TRUTH, rel=0.05)


def test_a_batch_and_a_context_that_grow_together_are_told_apart_by_the_prior() -> None:
    times = worker()

    for batch in range(1, 101):
        context_tokens = 1500 * batch
        times.observe(seconds(TRUTH, batch, context_tokens), batch, context_tokens, 0.0)

    assert times.predict(50, 75_000, 0.0) == pytest.approx(seconds(TRUTH, 50, 75_000), rel=0.02)
    assert times.predict(50, 20_000, 0.0) == pytest.approx(seconds(TRUTH, 50, 20_000), rel=0.1)


def test_what_a_worker_has_not_seen_it_takes_from_its_pool() -> None:
    pool = StepTimes()
    quiet = StepTimes(pool)
    alone = seconds(TRUTH, 1, 500)
    for _ in range(50):
        quiet.observe(alone, 1, 500, 0.0)

    teach(StepTimes(pool), TRUTH, 300)
    for _ in range(20):
        quiet.observe(alone, 1, 500, 0.0)

    assert quiet.predict(64, 64_000, 0.0) == pytest.approx(seconds(TRUTH, 64, 64_000), rel=0.1)


def test_a_worker_that_was_all_regular_may_become_noisy() -> None:
    times = worker()
    for _ in range(300):
        times.observe(0.01, 10, 10_000, 0.0)

    for _ in range(20):
        times.observe(0.013, 10, 10_000, 0.0)
        times.observe(0.009, 10, 10_000, 0.0)

    assert 0.0102 < times.predict(10, 10_000, 0.0) < 0.0115


@pytest.mark.parametrize("nonsense", [0.0, -1.0, math.inf, math.nan])
def test_what_is_no_time_teaches_nothing(nonsense: float) -> None:
    times = worker()
    teach(times, TRUTH, 20)
    before = times.model

    times.observe(nonsense, 10, 1000, 0.0)

    assert times.model == before


def test_a_step_always_takes_some_time() -> None:
    times = worker()

    for _ in range(300):
        times.observe(1e-6, 1, 0, 0.0)

    assert times.predict(0, 0, 0.0) == LEAST_SECONDS


OBSERVATIONS = st.lists(
    st.tuples(st.floats(1e-6, 10), st.floats(1, 1000), st.floats(0, 1e7)), max_size=40
)


@given(OBSERVATIONS)
def test_more_work_never_takes_less_time(observations: list[tuple[float, float, float]]) -> None:
    times = worker()

    for seconds_per_token, batch, context_tokens in observations:
        times.observe(seconds_per_token, batch, context_tokens, 0.0)

    assert times.model.seconds >= LEAST_SECONDS
    assert times.model.seconds_per_sequence >= 0
    assert times.model.seconds_per_context_token >= 0
