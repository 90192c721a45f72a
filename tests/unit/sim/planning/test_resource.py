"""The resource: YAML that asks for what was planned."""

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_operator.planning.children.router import router_deployment
from twofold_operator.planning.settings import PlanSettings
from twofold_operator.resources import parse_service
from twofold_operator.resources.checking import MAX_NAME_LENGTH, NAME_PATTERN
from twofold_sim.measuring.measures import Figures
from twofold_sim.measuring.quantiles import Quantiles
from twofold_sim.planning import Candidate, Layout, Objective, Pairing, Plan, render_resource
from twofold_sim.planning.resource import resource_name
from twofold_sim.planning.tables import plan_table, plan_text
from twofold_sim.profiles import Profile, StepCosts
from twofold_sim.workloads import LongPrompts

yaml = pytest.importorskip("yaml")

FIGURES = Figures(
    request_count=100,
    shortest_prompt_tokens=1,
    longest_prompt_tokens=9,
    on_time_share=0.99,
    tpot_share=0.91,
    slo_share=0.9,
    ttft_seconds=Quantiles(1.0, 1.0, 2.5, 3.0),
    tpot_seconds=Quantiles(0.04, 0.04, 0.08, 0.09),
    end_seconds=Quantiles(),
    hit_rate=0.3,
    refusals={},
    modes={},
    transferred_count=0,
    transferred_tokens=0,
)


def on_gpus(gpu_count: int) -> Profile:
    return Profile(
        name=f"model-tp{gpu_count}",
        source="made up",
        steps=StepCosts(base_seconds=0.01),
        kv_capacity_tokens=100_000,
        max_batched_tokens=2048,
        max_sequences=64,
        max_model_tokens=16_384,
        gpu_count=gpu_count,
    )


SPLIT = Layout(
    pairing=Pairing(prefill=on_gpus(2), decode=on_gpus(4)), prefill_count=5, decode_count=1
)
EQUAL = Layout(
    pairing=Pairing(prefill=on_gpus(2), decode=on_gpus(2)), prefill_count=4, decode_count=3
)
TOGETHER = Layout(pairing=Pairing(decode=on_gpus(4)), decode_count=3)


def make_plan(
    *layouts: Layout, goodputs: tuple[tuple[float, ...], ...] = (), stay_seconds: float = 3.0
) -> Plan:
    found = goodputs or tuple((8.0 / (number + 1),) * 2 for number in range(len(layouts)))
    return Plan(
        workload="conversation",
        gpu_count=15,
        objective=Objective(ttft_seconds=5.0, tpot_seconds=0.0805),
        spacing="poisson",
        candidates=tuple(
            Candidate(layout=layout, goodputs=each, figures=FIGURES)
            for layout, each in zip(layouts, found, strict=True)
        ),
        hopeless={"both on TP 8": 1.5},
        unmeetable=("both on TP 2",),
        seeds=(0, 1),
        measured_count=600,
        stay_seconds=stay_seconds,
        run_count=70,
        seconds=42.0,
    )


def render(plan: Plan, name: str = "model", model: str | None = None, command: str = "") -> Any:
    return yaml.safe_load(render_resource(plan, name=name, model=model, command=command))


def test_the_resource_asks_for_the_best_layout() -> None:
    found = render(make_plan(SPLIT, TOGETHER), "Llama2 70B", "hf://some/model")

    assert found == {
        "apiVersion": "serving.twofold.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": "llama2-70b"},
        "spec": {
            "model": {
                "source": "hf://some/model",
                "maxModelLen": 16_384,
                "engineArgs": ["--max-num-batched-tokens=2048", "--max-num-seqs=64"],
            },
            "prefill": {"replicas": 5, "tensorParallel": 2},
            "decode": {"replicas": 1, "tensorParallel": 4},
            "slo": {"ttftMs": 5000, "tpotMs": 80},
            "transfer": {"connector": "nixl"},
        },
    }


def test_equal_engines_take_the_usual_transfer() -> None:
    assert "transfer" not in render(make_plan(EQUAL))["spec"]


def test_together_nobody_only_prefills() -> None:
    spec = render(make_plan(TOGETHER))["spec"]

    assert spec["prefill"] == {"replicas": 0}
    assert spec["decode"] == {"replicas": 3, "tensorParallel": 4}
    assert spec["model"]["engineArgs"] == ["--max-num-batched-tokens=2048", "--max-num-seqs=64"]


@pytest.mark.parametrize(("layout", "is_aggregated"), [(TOGETHER, True), (SPLIT, False)])
def test_routers_of_it_serve_on_one_worker_exactly_if_it_is_aggregated(
    layout: Layout, is_aggregated: bool
) -> None:
    manifest = render(make_plan(layout), model="hf://some/model")
    manifest["metadata"]["namespace"] = "models"

    routers = router_deployment(
        parse_service(manifest), PlanSettings(redis_url="redis://localhost:6379")
    )

    [container] = routers["spec"]["template"]["spec"]["containers"]
    assert ("--no-disaggregation" in container["args"]) is is_aggregated


def test_the_steps_are_those_of_the_engines_that_prefill() -> None:
    prefill = msgspec.structs.replace(on_gpus(2), max_batched_tokens=8192)
    unequal = Layout(
        pairing=Pairing(prefill=prefill, decode=on_gpus(2)), prefill_count=4, decode_count=3
    )
    text = render_resource(make_plan(unequal), name="m", model=None, command="")

    [tokens, _] = yaml.safe_load(text)["spec"]["model"]["engineArgs"]
    assert tokens == "--max-num-batched-tokens=8192"
    assert "those that decode are planned with 2048" in text
    assert "those that prefill are planned with" not in text


@pytest.mark.parametrize(
    ("prefill_bounds", "decode_bounds", "written"),
    [((2048, 16), (2048, 64), 64), ((32, 64), (2048, 64), 32), ((512, 8), (32, 64), 32)],
)
def test_the_sequences_are_those_of_the_engines_that_decode(
    prefill_bounds: tuple[int, int], decode_bounds: tuple[int, int], written: int
) -> None:
    prefill, decode = (
        msgspec.structs.replace(on_gpus(2), max_batched_tokens=tokens, max_sequences=sequences)
        for tokens, sequences in (prefill_bounds, decode_bounds)
    )
    unequal = Layout(
        pairing=Pairing(prefill=prefill, decode=decode), prefill_count=4, decode_count=3
    )
    text = render_resource(make_plan(unequal), name="m", model=None, command="")

    [_, sequences] = yaml.safe_load(text)["spec"]["model"]["engineArgs"]
    assert sequences == f"--max-num-seqs={written}"
    assert f"those that prefill are planned with {min(prefill_bounds)}" in text


@pytest.mark.parametrize("trained_tokens", [4096, 16_384])
def test_a_model_is_asked_for_no_more_than_it_was_trained_for(trained_tokens: int) -> None:
    prefill = msgspec.structs.replace(on_gpus(2), trained_tokens=trained_tokens)
    split = Layout(
        pairing=Pairing(prefill=prefill, decode=prefill), prefill_count=5, decode_count=1
    )
    plan = make_plan(split)
    text = render_resource(plan, name="m", model=None, command="")

    is_less = trained_tokens < 16_384
    assert ("maxModelLen" in yaml.safe_load(text)["spec"]["model"]) is not is_less
    assert ("but the model was trained for 4096" in text) is is_less
    assert ("but the model was trained for 4,096" in plan_text(plan)) is is_less


def test_comments_say_what_it_was_planned_for() -> None:
    text = render_resource(make_plan(SPLIT, TOGETHER), name="m", model=None, command="twofold plan")
    comments = "\n".join(line for line in text.splitlines() if line.startswith("#"))

    assert "twofold plan" in comments
    assert "14 of 15 GPUs" in comments
    assert "8 requests a second like those of conversation" in comments
    assert "runner-up: 3 x TP 4 for both, in steps of 2048 tokens, 50.0% behind" in comments


@given(name=st.text(max_size=80), model=st.text(max_size=40), command=st.text(max_size=40))
def test_no_text_breaks_the_document(name: str, model: str, command: str) -> None:
    found = render(make_plan(SPLIT), name, model or None, command)

    assert set(found) == {"apiVersion", "kind", "metadata", "spec"}
    if model:
        assert found["spec"]["model"]["source"] == model


@given(text=st.text(max_size=100))
def test_a_name_is_one_that_kubernetes_takes(text: str) -> None:
    name = resource_name(text)

    assert len(name) <= MAX_NAME_LENGTH
    assert re.fullmatch(NAME_PATTERN, name)


def test_the_table_has_a_line_for_each_layout_and_what_binds() -> None:
    [headers, _, best, other] = plan_table(make_plan(SPLIT, TOGETHER)).splitlines()

    assert len({line.count("|") for line in (headers, best, other)}) == 1
    assert "5 x TP 2 prefill, 1 x TP 4 decode" in best
    assert "TPOT" in best
    assert "50.0%" in other


def test_the_text_tells_of_the_runner_up_the_unused_and_those_given_up() -> None:
    text = plan_text(make_plan(SPLIT, TOGETHER))

    assert "Runner-up: 3 x TP 4 for both, in steps of 2048 tokens, 50.0% behind" in text
    assert "better with each of 2 seeds" in text
    assert "1 of the 15 GPUs stays unused" in text
    assert "Given up early, with less than 1.5 a second: both on TP 8." in text
    assert "Too slow even with one request at a time: both on TP 2" in text


def test_it_is_said_when_a_seed_sees_it_the_other_way() -> None:
    plan = make_plan(SPLIT, TOGETHER, goodputs=((9.0, 7.0), (7.5, 7.5)))

    assert not plan.is_certain
    assert "Not certain" in plan_text(plan)


def test_who_was_run_with_fewer_seeds_is_compared_on_the_same_ones() -> None:
    plan = make_plan(SPLIT, TOGETHER, goodputs=((8.0, 10.0), (6.0,)))

    assert plan.behind(plan.candidates[1]) == pytest.approx(0.25)


def test_runs_that_are_too_short_to_tell_are_told_of() -> None:
    long, short = make_plan(SPLIT), make_plan(SPLIT, goodputs=((13.0,),))

    assert "too high to last" not in plan_text(long)
    assert "arrive within 46 s, which is short for a TTFT of 5,000 ms" in plan_text(short)


def test_runs_in_which_hardly_anybody_leaves_are_told_of() -> None:
    patient, long = make_plan(SPLIT, stay_seconds=7.0), make_plan(SPLIT, stay_seconds=8.0)

    assert "too high to last" not in plan_text(patient)
    assert "arrive within 75 s, which is short for" in plan_text(long)
    assert "requests that stay for up to 8 s: take more requests" in plan_text(long)


def test_prompts_that_are_not_planned_for_as_they_are_are_told_of() -> None:
    long_prompts = LongPrompts(count=3, total=10, most_tokens=6144, on_long="truncate")
    plan = msgspec.structs.replace(make_plan(SPLIT), long_prompts=long_prompts)
    said = "3 of 10 prompts (30.0%) have more than 6,144 tokens and are cut to that: "

    assert said in plan_text(plan)
    assert f"# {said}" in render_resource(plan, name="m", model=None, command="")
    assert "prompts (" not in plan_text(make_plan(SPLIT))


def test_a_lone_layout_has_no_runner_up() -> None:
    assert "no other layout" in plan_text(make_plan(SPLIT))
