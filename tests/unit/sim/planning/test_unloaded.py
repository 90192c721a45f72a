"""What engines with one request at a time can do, and what is said when that is not enough."""

import math

import pytest

from twofold_sim.planning.errors import UnmeetableError
from twofold_sim.planning.layout import Pairing
from twofold_sim.planning.load import Load
from twofold_sim.planning.trial import Objective
from twofold_sim.planning.unloaded import Unloaded, check_meetable, measure_unloaded
from twofold_sim.profiles import Profile, StepCosts
from twofold_sim.workloads import Prompt

OBJECTIVE = Objective(ttft_seconds=1.0, tpot_seconds=0.05)


def on_gpus(gpu_count: int) -> Profile:
    return Profile(
        name=f"tp{gpu_count}",
        source="made up",
        steps=StepCosts(base_seconds=0.01, per_prefill_token=0.001),
        kv_capacity_tokens=10_000,
        gpu_count=gpu_count,
    )


def make(gpu_count: int, ttft: float, tpot: float, met_share: float) -> Unloaded:
    return Unloaded(
        pairing=Pairing(decode=on_gpus(gpu_count)),
        ttft_seconds=ttft,
        tpot_seconds=tpot,
        met_share=met_share,
    )


def test_each_request_has_the_engine_to_itself() -> None:
    prompts = [
        Prompt(at=0.0, prompt_tokens=100 * number, output_tokens=4, block_ids=(number,))
        for number in range(1, 11)
    ]
    load = Load(prompts, warm_up_count=0, measured_count=10)
    found = measure_unloaded(Pairing(decode=on_gpus(1)), load, OBJECTIVE)

    assert found.ttft_seconds == pytest.approx(0.91)
    assert found.tpot_seconds == pytest.approx(0.01)
    assert found.met_share == 0.9


def test_those_that_meet_the_objective_are_kept() -> None:
    good, bad = make(1, 0.9, 0.04, 0.95), make(2, 0.9, 0.06, 0.2)

    assert check_meetable([bad, good], OBJECTIVE) == [good]


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            [make(1, 3.0, 0.04, 0.1), make(2, 2.0, 0.05, 0.3)],
            r"^a TTFT of 1000 ms cannot be met: .* up to 2000 ms, .* best \(both on TP 2 in .*\)$",
        ),
        (
            [make(1, 0.5, 0.2, 0.1), make(2, 2.0, 0.06, 0.3)],
            r"^a TPOT of 50 ms cannot be met: .* up to 60 ms each, .* best \(both on TP 2 in .*\)$",
        ),
        (
            [make(1, 3.0, 0.2, 0.1), make(2, 2.0, 0.3, 0.3)],
            r"TTFT .* 2000 ms.* \(both on TP 2 .*\); and a TPOT .* 200 ms .*\(both on TP 1 .*\)$",
        ),
        (
            [make(1, 0.5, 0.2, 0.1), make(2, 2.0, 0.04, 0.3)],
            r"but not both: .* 30% of the requests meet both \(both on TP 2 in .*\)",
        ),
        ([make(1, math.inf, math.inf, 0.1)], r"too long for each of these engines"),
    ],
)
def test_it_is_said_which_slo_cannot_be_met_and_what_the_best_is(
    found: list[Unloaded], said: str
) -> None:
    with pytest.raises(UnmeetableError, match=said):
        check_meetable(found, OBJECTIVE)
