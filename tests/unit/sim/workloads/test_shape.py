"""The shape of a generated workload, as a user tells it."""

import statistics
from itertools import pairwise

import pytest

from twofold_sim.workloads import SHAPE_FIELDS, Shape, WorkloadError, open_workload, parse_shape


def test_what_is_not_told_is_as_usual() -> None:
    shape = parse_shape("gap-variation=4, prompt-exponent=1.5,prefix-blocks=0")

    assert shape == Shape(gap_variation=4.0, prompt_exponent=1.5, prefix_blocks=0)


@pytest.mark.parametrize("field", SHAPE_FIELDS)
def test_each_field_can_be_told(field: str) -> None:
    number = 500 if field.endswith("tokens") else 3

    shape = parse_shape(f"{field.replace('_', '-')}={number}")

    assert getattr(shape, field) == number


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not one of gap-variation, least-prompt-tokens"),
        ("qps=3", "is not one of"),
        ("gap-variation=1,gap-variation=2", "each once"),
        ("gap-variation", "gap_variation"),
        ("gap-variation=0", "gap_variation"),
        ("gap-variation=nan", "gap_variation"),
        ("prompt-exponent=inf", "prompt_exponent"),
        ("prefix-count=0", "prefix_count"),
        ("prefix-blocks=1.5", "prefix_blocks"),
        ("most-prompt-tokens=100000000", "most_prompt_tokens"),
        ("least-prompt-tokens=9,most-prompt-tokens=8", "no prompt has 9 to 8 tokens"),
        ("least-output-tokens=4096", "no output has 4096 to 2048 tokens"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(text: str, said: str) -> None:
    with pytest.raises(WorkloadError, match=said):
        parse_shape(text)


def variation(gaps: list[float]) -> float:
    return statistics.pstdev(gaps) / statistics.fmean(gaps)


def test_the_shape_is_that_of_the_workload() -> None:
    text = "gap-variation=3,least-prompt-tokens=50,most-prompt-tokens=60,prefix-blocks=0"

    prompts = open_workload("synthetic-zipf", count=2000, shape=parse_shape(text))

    gaps = [later.at - prompt.at for prompt, later in pairwise(prompts)]
    assert variation(gaps) == pytest.approx(3, rel=0.2)
    assert {prompt.prompt_tokens for prompt in prompts} == set(range(50, 61))


def test_no_other_workload_has_a_shape() -> None:
    with pytest.raises(WorkloadError, match="only synthetic-zipf has a shape"):
        open_workload("synthetic-agent", count=20, shape=Shape())
