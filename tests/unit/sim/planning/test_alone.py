"""What single workers do, and what is guessed from it."""

import pytest

from twofold_sim.planning.alone import Alone
from twofold_sim.planning.layout import Layout, Pairing
from twofold_sim.planning.load import draw_load
from twofold_sim.planning.trial import Objective
from twofold_sim.profiles import Profile, StepCosts
from twofold_sim.workloads import Prompt

PROFILE = Profile(
    name="quick",
    source="made up",
    steps=StepCosts(base_seconds=0.01, per_prefill_token=0.001, per_sequence=0.001),
    kv_capacity_tokens=100_000,
    max_batched_tokens=512,
)
TRACE = [
    Prompt(at=float(number), prompt_tokens=90, output_tokens=21, block_ids=(number,))
    for number in range(200)
]


@pytest.fixture(scope="module")
def alone() -> Alone:
    objective = Objective(ttft_seconds=1.0, tpot_seconds=0.025)
    return Alone(draw_load(TRACE, 100), objective)


def test_a_prefill_worker_is_limited_by_prompts_and_a_decode_worker_by_answers(
    alone: Alone,
) -> None:
    # A prompt takes 0.09 s and a step 0.01; 15 sequences decode at 0.025 s a step, for 0.5 s each.
    assert 7 < alone.prefill(PROFILE) < 11
    assert 18 < alone.decode(PROFILE) < 36


def test_who_does_both_does_less_than_who_does_one_thing(alone: Alone) -> None:
    assert 0 < alone.both(PROFILE) < alone.prefill(PROFILE)


def test_the_scarcer_phase_is_the_limit_of_a_layout(alone: Alone) -> None:
    pairing = Pairing(prefill=PROFILE, decode=PROFILE)
    short = Layout(pairing=pairing, prefill_count=1, decode_count=3)
    long = Layout(pairing=pairing, prefill_count=9, decode_count=1)
    together = Layout(pairing=Pairing(decode=PROFILE), decode_count=4)

    assert alone.estimate(short) == alone.prefill(PROFILE)
    assert alone.estimate(long) == alone.decode(PROFILE)
    assert alone.estimate(together) == 4 * alone.both(PROFILE)


@pytest.mark.parametrize("prefill", [None, PROFILE])
def test_requests_stay_as_long_as_they_do_with_as_many_as_are_served_well(
    alone: Alone, prefill: Profile | None
) -> None:
    # 20 steps after the first token, of 11 ms with nobody else and of 25 ms at the most.
    assert 0.33 < alone.stay_seconds(Pairing(prefill=prefill, decode=PROFILE)) < 1.5


def test_a_worker_is_measured_once(alone: Alone) -> None:
    alone.decode(PROFILE)
    count = alone.run_count
    alone.decode(PROFILE)

    assert alone.run_count == count
