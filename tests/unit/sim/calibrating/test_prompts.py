"""Prompts of about so many tokens."""

from random import Random

import pytest

from twofold_sim.calibrating import PromptMaker


def test_prompts_become_as_long_as_they_should_be() -> None:
    prompts = PromptMaker(Random(1))
    prompts.learn("three words here", 12)

    assert prompts.make(400).count(" ") + 1 == 100


def test_what_was_learned_is_weighed_by_the_words() -> None:
    prompts = PromptMaker(Random(1))
    prompts.learn("word", 10)
    prompts.learn(" ".join(["word"] * 9), 10)

    assert prompts.make(100).count(" ") + 1 == 50


def test_the_shortest_prompt_is_a_word() -> None:
    assert PromptMaker(Random(1)).make(1).count(" ") == 0


@pytest.mark.parametrize("seed", range(3))
def test_no_two_prompts_begin_alike(seed: int) -> None:
    prompts = PromptMaker(Random(seed))
    made = [prompts.make(50) for _ in range(100)]

    assert len({text[:20] for text in made}) == 100


def test_the_same_seed_makes_the_same_prompts() -> None:
    assert PromptMaker(Random(5)).make(50) == PromptMaker(Random(5)).make(50)
