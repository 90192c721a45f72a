"""Expected output lengths, from the window of recent ones."""

import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_router.placement.output_lengths import (
    MIN_GROWTH,
    PRIOR_OUTPUT_TOKENS,
    WINDOW,
    OutputLengths,
)

MODEL_TOKENS = 8192
LENGTHS = st.lists(st.integers(1, MODEL_TOKENS), max_size=60)


def observed(output_lengths: list[int], times: int = 1) -> OutputLengths:
    lengths = OutputLengths(MODEL_TOKENS)
    for _ in range(times):
        for output_tokens in output_lengths:
            lengths.observe(output_tokens)
    return lengths


def test_before_any_observation_an_answer_has_256_tokens() -> None:
    assert OutputLengths(MODEL_TOKENS).predict(None) == 256


@given(LENGTHS)
def test_without_a_limit_it_is_the_mean(output_lengths: list[int]) -> None:
    expected = statistics.fmean([*PRIOR_OUTPUT_TOKENS, *output_lengths])

    assert observed(output_lengths).predict(None) == pytest.approx(expected)


@given(LENGTHS, st.integers(1, MODEL_TOKENS))
def test_a_limit_cuts_each_length_within_a_bucket(output_lengths: list[int], limit: int) -> None:
    cut = [min(length, limit) for length in [*PRIOR_OUTPUT_TOKENS, *output_lengths]]

    predicted = observed(output_lengths).predict(limit)

    # A bucket is 19 % wide, so what is in the limit's own counts for at most so much too much.
    assert statistics.fmean(cut) - 1e-9 <= predicted <= limit
    assert predicted <= 1.19 * statistics.fmean(cut)


def test_a_limit_tells_lengths_apart_that_differ_by_a_fifth() -> None:
    lengths = observed([600, 1000], times=WINDOW // 2)

    assert lengths.predict(700) == 650
    assert lengths.predict(900) == 750


@given(LENGTHS)
def test_a_higher_limit_never_predicts_less(output_lengths: list[int]) -> None:
    lengths = observed(output_lengths)

    predictions = [lengths.predict(limit) for limit in range(1, 2000, 7)]

    assert all(lower <= higher + 1e-9 for lower, higher in pairwise(predictions))


def test_nothing_is_longer_than_the_model_allows() -> None:
    lengths = OutputLengths(100)

    for _ in range(WINDOW):
        lengths.observe(1_000_000)

    assert lengths.predict(None) == lengths.predict(5000) == lengths.predict_beyond(50) == 100


def test_the_window_forgets() -> None:
    lengths = observed([4000] * 50)

    for _ in range(WINDOW):
        lengths.observe(10)

    assert lengths.predict(None) == 10


def test_who_outlived_the_short_answers_is_one_of_the_long() -> None:
    lengths = observed([20] * 9 + [2000], times=100)

    assert lengths.predict(None) == pytest.approx(218, rel=0.01)
    assert lengths.predict_beyond(1200) == 2000


@given(LENGTHS, st.floats(0, 1e7))
def test_who_is_running_still_is_expected_to_go_on(
    output_lengths: list[int], generated: float
) -> None:
    predicted = observed(output_lengths).predict_beyond(generated)

    assert predicted >= generated * MIN_GROWTH
    assert predicted > generated
