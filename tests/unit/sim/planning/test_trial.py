"""One run: what is late, and that nothing but time is saved by ending early."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twofold_sim.planning.layout import Layout, Pairing
from twofold_sim.planning.load import draw_load
from twofold_sim.planning.trial import Objective, Outcome, Trial
from twofold_sim.profiles import Profile, StepCosts, TransferCosts
from twofold_sim.workloads import Prompt

SLOW = Profile(
    name="slow",
    source="made up",
    steps=StepCosts(base_seconds=0.01, per_prefill_token=0.001, per_sequence=0.001),
    transfer=TransferCosts(latency_seconds=0.05),
    kv_capacity_tokens=100_000,
)
FAST = Profile(
    name="fast",
    source="made up",
    steps=StepCosts(base_seconds=0.01, per_prefill_token=0.0005),
    kv_capacity_tokens=100_000,
    gpu_count=2,
)
TRACE = [
    Prompt(at=float(number), prompt_tokens=64 + number % 64, output_tokens=10, block_ids=(number,))
    for number in range(200)
]


def make_layout(prefill: int = 1, decode: int = 1) -> Layout:
    if prefill:
        pairing = Pairing(prefill=SLOW, decode=SLOW)
        return Layout(pairing=pairing, prefill_count=prefill, decode_count=decode)
    return Layout(pairing=Pairing(decode=SLOW), decode_count=decode)


def run(layout: Layout, qps: float, objective: Objective, *, ends_early: bool = True) -> Outcome:
    load = draw_load(TRACE, 100)
    return Trial(
        layout,
        load.at(qps),
        objective,
        warm_up_count=load.warm_up_count,
        measured_count=load.measured_count,
        ends_early=ends_early,
    ).run()


def run_one(layout: Layout, objective: Objective) -> Outcome:
    prompt = Prompt(at=0.0, prompt_tokens=100, output_tokens=11, block_ids=(1,))
    return Trial(layout, [prompt], objective, measured_count=1, ends_early=False).run()


@given(
    qps=st.sampled_from([2.0, 6.0, 8.0, 10.0, 20.0]),
    prefill=st.integers(0, 2),
    tpot=st.sampled_from([0.012, 0.02, 0.05]),
)
@settings(max_examples=12, deadline=None)
def test_a_run_that_ends_early_tells_the_same_as_one_to_the_end(
    qps: float, prefill: int, tpot: float
) -> None:
    objective = Objective(ttft_seconds=0.4, tpot_seconds=tpot)
    early = run(make_layout(prefill), qps, objective)
    whole = run(make_layout(prefill), qps, objective, ends_early=False)

    assert early.is_good == whole.is_good
    assert len(whole.served) == whole.measured_count == 100
    assert whole.met_count + whole.late_first_count + whole.late_rest_count == 100
    on_time = [
        objective.slo.ttft_is_met(each) and objective.slo.tpot_is_met(each) for each in whole.served
    ]
    assert sum(on_time) == whole.met_count


def test_it_ends_as_soon_as_one_too_many_is_late_or_enough_are_on_time() -> None:
    objective = Objective(ttft_seconds=0.4, tpot_seconds=0.05)
    bad = run(make_layout(), 50.0, objective)
    good = run(make_layout(), 2.0, objective)

    assert (bad.is_good, bad.late_first_count) == (False, 11)
    assert (good.is_good, good.met_count) == (True, 90)


def test_late_first_tokens_are_told_from_late_others() -> None:
    # First token: 0.11 of prefill, 0.05 of transfer, 0.011 of the last token; then 0.011 each.
    exact = Objective(ttft_seconds=0.171, tpot_seconds=0.011 + 1e-12)
    first = Objective(ttft_seconds=0.1709, tpot_seconds=0.012)
    rest = Objective(ttft_seconds=0.172, tpot_seconds=0.0109)

    assert run_one(make_layout(), exact).met_count == 1
    assert run_one(make_layout(), first).late_first_count == 1
    assert run_one(make_layout(), rest).late_rest_count == 1


def test_each_phase_takes_the_time_of_its_own_engine() -> None:
    pairing = Pairing(prefill=SLOW, decode=FAST)
    layout = Layout(pairing=pairing, prefill_count=1, decode_count=1)
    outcome = run_one(layout, Objective(ttft_seconds=1.0, tpot_seconds=1.0))

    [served] = outcome.served
    assert served.ttft_seconds == pytest.approx(0.11 + 0.0105)
    assert served.tpot_seconds == pytest.approx(0.01)


def test_a_request_that_never_fits_is_late() -> None:
    long = Prompt(at=0.0, prompt_tokens=200_000, output_tokens=2, block_ids=tuple(range(400)))
    objective = Objective(ttft_seconds=1e6, tpot_seconds=1.0)
    outcome = Trial(make_layout(), [long], objective, measured_count=1).run()

    assert (outcome.is_good, outcome.late_first_count) == (False, 1)


def test_all_of_them_may_be_wanted_on_time() -> None:
    strict = Objective(ttft_seconds=0.4, tpot_seconds=0.05, good_share=1.0)

    assert run(make_layout(), 2.0, strict).met_count == 100


@pytest.mark.parametrize("prefill", [0, 1])
def test_an_answer_ends_at_the_length_of_the_model_that_generates(prefill: int) -> None:
    short = msgspec.structs.replace(SLOW, max_model_tokens=110)
    pairing = Pairing(prefill=SLOW if prefill else None, decode=short)
    layout = Layout(pairing=pairing, prefill_count=prefill, decode_count=1)

    outcome = run_one(layout, Objective(ttft_seconds=1.0, tpot_seconds=1.0))

    assert outcome.met_count == 1
    assert [served.output_tokens for served in outcome.served] == [10]
