"""What is taken from the moments of tokens."""

import pytest

from twofold_sim.calibrating.endpoint import Answer
from twofold_sim.calibrating.measuring import batch_sample


def answer(first_at: float, *, step: float = 0.1, count: int = 20, prompt: int = 100) -> Answer:
    times = [first_at + i * step for i in range(count)]
    return Answer(first_at - 1.0, times, prompt, 0, count)


def test_only_the_steps_count_in_which_all_generate() -> None:
    early, late = answer(0.0, count=12), answer(0.5)

    sample = batch_sample([early, late])

    assert sample is not None
    assert sample.seconds == pytest.approx(0.1)
    assert sample.sequence_count == 2


def test_the_context_is_that_of_the_middle() -> None:
    early, late = answer(0.0, count=12), answer(0.5)

    sample = batch_sample([early, late])

    assert sample is not None
    # Six tokens of the early one and one of the late one before, then six steps.
    assert sample.context_tokens == pytest.approx(100 + 6 + 3 + 100 + 1 + 3, abs=1.01)


def test_answers_that_hardly_met_are_no_batch() -> None:
    assert batch_sample([answer(0.0, count=12), answer(0.95)]) is None
    assert batch_sample([answer(0.0, count=12), answer(5.0)]) is None


@pytest.mark.parametrize("reads", [1, 2, 3])
def test_an_answer_that_was_collected_is_no_batch_though_it_comes_in_several_reads(
    reads: int,
) -> None:
    times = [5.0 + 0.001 * (token * reads // 24) for token in range(24)]

    assert batch_sample([Answer(1.0, times, 100, 0, 24)]) is None


def test_the_first_token_is_timed_from_the_sending_and_the_others_from_the_first() -> None:
    one = answer(3.0, step=0.2)

    assert one.ttft == 1.0
    assert one.tpot == pytest.approx(0.2)
    assert answer(3.0, count=1).tpot == 0.0
