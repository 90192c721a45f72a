"""The peak of KV need, against a simulation token by token."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from twofold_router.placement.past_future import OVERDUE, RunningBatch

STEP_SECONDS = 0.5
"""A power of two, so that steps are counted without rounding."""

RUNNING = st.tuples(st.integers(0, 60), st.integers(0, 30), st.integers(1, 30))
"""Prompt tokens, generated tokens, remaining tokens."""


def double(generated_tokens: float) -> float:
    return 2 * generated_tokens


def empty_batch() -> RunningBatch:
    return RunningBatch(double, 0.0)


def advance_to(batch: RunningBatch, step: float) -> None:
    batch.advance(step * STEP_SECONDS, STEP_SECONDS)


def batch_of(running: list[tuple[int, int, int]]) -> RunningBatch:
    """Admit each request as long ago as it has generated tokens."""
    batch = empty_batch()
    batch.admit("clock", 0, 1000, 1000)
    longest = max((generated for _, generated, _ in running), default=0)
    for number, (prompt, generated, remaining) in enumerate(
        sorted(running, key=lambda one: -one[1])
    ):
        advance_to(batch, longest - generated)
        batch.admit(str(number), prompt, generated + remaining, 1000)
    advance_to(batch, longest)
    batch.leave("clock")
    return batch


def simulated_peak(running: list[tuple[int, int, int]]) -> int:
    """Generate token by token until all are done, and return the most KV tokens ever in use."""
    use_and_remaining = [
        (prompt + generated, remaining) for prompt, generated, remaining in running
    ]
    peak = 0
    while use_and_remaining:
        use_and_remaining = [(use + 1, remaining - 1) for use, remaining in use_and_remaining]
        peak = max(peak, sum(use for use, _ in use_and_remaining))
        use_and_remaining = [one for one in use_and_remaining if one[1] > 0]
    return peak


def test_the_peak_of_one_request_is_its_end() -> None:
    assert empty_batch().peak_with(100, 20) == 120


def test_who_ends_early_makes_room_for_who_stays() -> None:
    batch = empty_batch()
    batch.admit("short", 1000, 10, 10)

    # After 10 steps 1010 and 60, after 500 steps 550 alone.
    assert batch.peak_with(50, 500) == 1070
    assert batch.peak_bound_with(50, 500) == 1560


@given(st.lists(RUNNING, max_size=9), st.integers(0, 60), st.integers(1, 40))
def test_the_peak_is_that_of_a_simulation_token_by_token(
    running: list[tuple[int, int, int]], prompt_tokens: int, output_tokens: int
) -> None:
    batch = batch_of(running)

    peak = batch.peak_with(prompt_tokens, output_tokens)

    assert peak == simulated_peak([*running, (prompt_tokens, 0, output_tokens)])
    assert peak <= batch.peak_bound_with(prompt_tokens, output_tokens)


def test_time_moves_neither_peak_while_nobody_ends() -> None:
    batch = batch_of([(100, 5, 20), (30, 0, 50)])
    newcomer_later = batch.peak_with(10, 50)

    advance_to(batch, 15)

    assert batch.peak_with(10, 40) == newcomer_later - 10


def test_steps_are_elapsed_time_over_the_time_per_token() -> None:
    batch = RunningBatch(double, 100.0)
    batch.admit("a", 1000, 500, 500)

    batch.advance(102.0, 0.01)
    batch.advance(103.0, 0.1)
    batch.advance(90.0, 0.1)

    assert batch.context_tokens == 1000 + 200 + 10


def test_who_outlives_its_prediction_is_predicted_again() -> None:
    batch = empty_batch()
    batch.admit("a", 100, 10, 1000)

    advance_to(batch, 10)

    assert (batch.count, batch.context_tokens, batch.final_tokens) == (1, 110, 120)


def test_who_would_be_long_past_its_limit_counts_no_more() -> None:
    batch = empty_batch()
    batch.admit("stalled", 100, 10, 10)

    advance_to(batch, OVERDUE * 10)
    gone = (batch.count, batch.context_tokens, batch.final_tokens)
    batch.leave("stalled")

    assert not any(gone)
    assert batch.peak_with(100, 10) == 110


def test_a_request_that_begins_late_has_its_whole_answer_before_it() -> None:
    batch = empty_batch()
    batch.admit("other", 0, 1000, 1000)
    batch.admit("a", 100, 10, 1000)
    advance_to(batch, 50)

    batch.begin("a")

    assert batch.context_tokens == 50 + 100
    assert batch.final_tokens == 1000 + 110


def test_no_rounding_error_outlives_a_batch() -> None:
    batch = empty_batch()

    for number in range(1, 4):
        batch.advance(0.1 * number, 0.03)
        batch.admit(str(number), 0.1 * number, 10, 10)
    for number in range(1, 4):
        batch.leave(str(number))

    assert (batch.context_tokens, batch.final_tokens) == (0.0, 0.0)


def test_a_request_is_admitted_once_and_leaves_once() -> None:
    batch = empty_batch()
    batch.admit("a", 100, 10, 10)

    with pytest.raises(AssertionError, match="a"):
        batch.admit("a", 100, 10, 10)
    batch.leave("a")
    with pytest.raises(KeyError, match="a"):
        batch.leave("a")


@dataclass(slots=True)
class Modelled:
    """A request as a plain reading of the rules has it."""

    prompt_tokens: int
    predicted_tokens: int
    max_output_tokens: int
    start: int
    output_tokens: int
    counted: bool = True


class BatchMachine(RuleBasedStateMachine):
    """Requests come, begin, outlive their predictions and leave, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.batch = empty_batch()
        self.model: dict[str, Modelled] = {}
        self.step = 0
        self.serial = 0

    @rule(prompt=st.integers(0, 99), predicted=st.integers(1, 20), surplus=st.integers(0, 20))
    def admit(self, prompt: int, predicted: int, surplus: int) -> None:
        self.serial += 1
        request_id = str(self.serial)
        limit = predicted + surplus
        self.batch.admit(request_id, prompt, predicted, limit)
        self.model[request_id] = Modelled(prompt, predicted, limit, self.step, predicted)

    @rule(steps=st.integers(1, 30))
    def advance(self, steps: int) -> None:
        self.step += steps
        advance_to(self.batch, self.step)
        for one in self.model.values():
            generated = self.step - one.start
            if one.counted and generated >= one.output_tokens:
                one.counted = generated < OVERDUE * one.max_output_tokens
                one.output_tokens = 2 * generated

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def begin(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.model)))
        self.batch.begin(request_id)
        one = self.model[request_id]
        one.counted, one.start, one.output_tokens = True, self.step, one.predicted_tokens

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.model)))
        self.batch.leave(request_id)
        del self.model[request_id]

    @invariant()
    def counts_are_those_of_who_is_there(self) -> None:
        counted = [one for one in self.model.values() if one.counted]
        running = [
            (
                one.prompt_tokens,
                self.step - one.start,
                one.start + one.output_tokens - self.step,
            )
            for one in counted
        ]
        assert self.batch.count == len(counted)
        assert self.batch.context_tokens == sum(prompt + done for prompt, done, _ in running)
        assert self.batch.final_tokens == sum(map(sum, running))
        assert self.batch.peak_with(7, 11) == simulated_peak([*running, (7, 0, 11)])
        assert self.batch.peak_with(7, 11) <= self.batch.peak_bound_with(7, 11)


TestBatchMachine = BatchMachine.TestCase
