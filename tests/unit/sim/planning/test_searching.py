"""The search: what it finds is the best, and it says when there is nothing to find."""

import random
import re

import msgspec
import pytest

from twofold_sim.planning import (
    NoRoomError,
    Objective,
    Plan,
    Question,
    TooFewRequestsError,
    UnmeetableError,
    search,
)
from twofold_sim.planning.layout import Layout, layouts, pairings
from twofold_sim.planning.searching import enough_requests
from twofold_sim.planning.trials import Trials
from twofold_sim.profiles import Profile, StepCosts, TransferCosts
from twofold_sim.workloads import Prompt

COUNT = 50
PROMPT_COUNT = 90
"""What a run that is measured on so many takes: none is left over to warm up with."""
OBJECTIVE = Objective(ttft_seconds=0.5, tpot_seconds=0.03)


def on_gpus(gpu_count: int) -> Profile:
    """Make an engine that is not quite so many times as fast on so many GPUs."""
    speed = gpu_count**0.8
    return Profile(
        name=f"quick-tp{gpu_count}",
        source="made up",
        steps=StepCosts(
            base_seconds=0.01 / speed, per_prefill_token=0.001 / speed, per_sequence=0.002 / speed
        ),
        transfer=TransferCosts(latency_seconds=0.001),
        kv_capacity_tokens=100_000,
        max_batched_tokens=256,
        gpu_count=gpu_count,
    )


def make_prompts(prompt_tokens: int, output_tokens: int, count: int = PROMPT_COUNT) -> list[Prompt]:
    rng = random.Random(7)
    return [
        Prompt(
            at=float(number),
            prompt_tokens=round(prompt_tokens * rng.uniform(0.5, 1.5)),
            output_tokens=round(output_tokens * rng.uniform(0.5, 1.5)),
            block_ids=(number,),
        )
        for number in range(count)
    ]


def ask(prompts: list[Prompt], gpu_count: int, *parallelisms: int) -> Question:
    return Question(
        workload="made-up",
        prompts=prompts,
        profiles=[on_gpus(count) for count in parallelisms or (1,)],
        gpu_count=gpu_count,
        objective=OBJECTIVE,
        measured_count=COUNT,
        seeds=(0,),
    )


def run_all(question: Question) -> dict[str, float]:
    """Search the goodput of every layout there is."""
    trials = Trials(question.load(COUNT, 0), question.objective)
    return {
        str(layout): trials.goodput(layout, 5.0, growth=1.5, tolerance=0.02).good_qps
        for pairing in pairings(question.profiles, question.gpu_count)
        for layout in layouts(pairing, question.gpu_count)
    }


def best_split(plan: Plan) -> Layout:
    return next(each.layout for each in plan.candidates if not each.layout.pairing.is_aggregated)


@pytest.mark.parametrize(
    ("prompt_tokens", "output_tokens", "gpu_count", "parallelisms"),
    [(150, 20, 5, (1,)), (100, 40, 4, (1, 2)), (60, 60, 3, (1,))],
)
def test_nothing_is_better_than_what_is_found(
    prompt_tokens: int, output_tokens: int, gpu_count: int, parallelisms: tuple[int, ...]
) -> None:
    question = ask(make_prompts(prompt_tokens, output_tokens), gpu_count, *parallelisms)
    plan = search(question)
    every = run_all(question)

    # With so few requests another rate may be good again by chance.
    assert every[str(plan.best.layout)] == max(every.values())
    assert plan.best.goodput_qps == pytest.approx(max(every.values()), rel=0.05)


def test_long_prompts_want_prefill_and_long_answers_want_decode() -> None:
    long_prompts = search(ask(make_prompts(300, 4), 5))
    long_answers = search(ask(make_prompts(60, 60), 5))

    assert best_split(long_prompts).prefill_count >= 3
    assert 1 <= best_split(long_answers).prefill_count <= 2
    assert long_answers.best.figures.request_count == COUNT


def test_the_same_question_gets_the_same_plan() -> None:
    question = ask(make_prompts(200, 6), 2)

    assert _timeless(search(question)) == _timeless(search(question))


def test_what_is_left_over_is_said_and_the_runner_up_is_behind() -> None:
    plan = search(ask(make_prompts(200, 6), 5, 2))

    assert plan.unused_gpu_count == 1
    assert plan.runner_up is not None
    assert 0 <= plan.behind(plan.runner_up) < 1
    assert plan.per_gpu(plan.best) == plan.best.goodput_qps / 5


def test_other_seeds_are_asked_about_the_best() -> None:
    question = ask(make_prompts(200, 6), 3)
    told: list[str] = []
    plan = search(
        Question(
            workload="made-up",
            prompts=question.prompts,
            profiles=question.profiles,
            gpu_count=3,
            objective=OBJECTIVE,
            measured_count=COUNT,
            seeds=(0, 1),
        ),
        told.append,
    )

    assert len(plan.best.goodputs) == 2
    assert plan.runner_up is not None
    assert plan.behind(plan.runner_up) >= 0
    assert any("with the seeds" in line for line in told)


@pytest.mark.parametrize(
    ("qps", "stay_seconds", "count"),
    [(5.0, 1.0, 900), (5.0, 15.0, 1500), (1.0, 15.0, 600), (50.0, 15.0, 3000)],
)
def test_the_longer_requests_stay_the_longer_are_the_runs(
    qps: float, stay_seconds: float, count: int
) -> None:
    assert enough_requests(qps, OBJECTIVE, stay_seconds) == count


def test_those_that_are_measured_come_after_three_stays() -> None:
    question = ask(make_prompts(60, 60, 500), 2)
    told: list[str] = []
    plan = search(question, told.append)

    [line] = [each for each in told if each.startswith("each run of a cluster")]
    [warm_up_count] = map(int, re.findall(r"on 50 requests, after (\d+);", line))
    assert 1.0 < plan.stay_seconds < 3.0
    assert warm_up_count > 2 * plan.stay_seconds * plan.best.goodput_qps > 15


def test_gpus_that_are_too_few_are_refused() -> None:
    with pytest.raises(NoRoomError, match="the smallest worker takes 2 GPUs, and there are 1"):
        search(ask(make_prompts(200, 6), 1, 2, 4))


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (Objective(ttft_seconds=0.1, tpot_seconds=0.03), "a TTFT of 100 ms cannot be met.* 295 ms"),
        (Objective(ttft_seconds=0.5, tpot_seconds=0.005), "a TPOT of 5 ms cannot be met.* 12 ms"),
        (Objective(ttft_seconds=0.1, tpot_seconds=0.005), "TTFT of 100 ms.*TPOT of 5 ms"),
    ],
)
def test_an_objective_that_cannot_be_met_is_named_with_the_best_there_is(
    objective: Objective, said: str
) -> None:
    question = ask(make_prompts(200, 6), 4)
    question = Question(
        workload="made-up",
        prompts=question.prompts,
        profiles=question.profiles,
        gpu_count=4,
        objective=objective,
        measured_count=COUNT,
    )

    with pytest.raises(UnmeetableError, match=said):
        search(question)


def test_requests_that_no_cluster_can_be_late_with_tell_nothing() -> None:
    patient = Objective(ttft_seconds=1e5, tpot_seconds=1e5)
    question = ask(make_prompts(20, 2), 2)

    with pytest.raises(TooFewRequestsError, match="50 requests are not too much"):
        search(
            Question(
                workload="made-up",
                prompts=question.prompts,
                profiles=question.profiles,
                gpu_count=2,
                objective=patient,
                measured_count=COUNT,
            )
        )


def test_bursts_that_are_too_much_at_any_rate_are_told_of() -> None:
    prompts = [
        msgspec.structs.replace(prompt, at=100.0 * (number // 20))
        for number, prompt in enumerate(make_prompts(200, 6))
    ]
    question = Question(
        workload="made-up",
        prompts=prompts,
        profiles=[on_gpus(1)],
        gpu_count=2,
        objective=OBJECTIVE,
        spacing="trace",
        measured_count=COUNT,
    )

    with pytest.raises(UnmeetableError, match="at no rate can a cluster of 2 GPUs") as raised:
        search(question)

    at_best = r"90% asked for, (\d+)% of them meet both SLOs at best \(1 x TP 1 prefill, 1 x TP 1 "
    each = r"decode, .* a second\), (\d+)% the TTFT of 500 ms and 100% the TPOT of 30 ms$"
    found = re.search(at_best + each, str(raised.value))
    assert found is not None, raised.value
    both, first = map(int, found.groups())
    assert 0 < both == first < 90


def _timeless(plan: Plan) -> Plan:
    return msgspec.structs.replace(plan, seconds=0.0)
