"""The best hit rate there is."""

from twofold_sim.workloads import Prompt, hit_rate_ceiling


def prompt(tokens: int, *block_ids: int) -> Prompt:
    return Prompt(at=0.0, prompt_tokens=tokens, output_tokens=1, block_ids=block_ids)


def test_what_was_there_before_is_cached() -> None:
    prompts = [prompt(1024, 0, 1), prompt(1024, 0, 2), prompt(1024, 0, 2)]

    assert hit_rate_ceiling(prompts) == (512 + 1023) / 3072


def test_a_block_after_one_that_is_new_is_new() -> None:
    assert hit_rate_ceiling([prompt(1024, 0, 1), prompt(1024, 2, 1)]) == 0.0


def test_a_prompt_that_does_not_count_fills_the_cache_only() -> None:
    prompts = [prompt(512, 0), prompt(1024, 0, 1)]

    assert hit_rate_ceiling(prompts, [False, True]) == 0.5
    assert hit_rate_ceiling(prompts, [False, False]) == 0.0
