"""Bytes per token, as learned from usage."""

import pytest

from twofold_router.placement.bytes_per_token import (
    MIN_SAMPLE_TOKENS,
    WINDOW,
    BytesPerToken,
)


def test_four_bytes_are_a_token_before_anything_is_known() -> None:
    assert BytesPerToken().tokens(1000) == 250.0


def test_it_follows_what_the_engine_counts() -> None:
    ratio = BytesPerToken()

    for prompt_tokens in (100, 1000, 10_000):
        ratio.observe(3 * prompt_tokens, prompt_tokens)

    assert ratio.tokens(900) == pytest.approx(300)


def test_prompts_of_images_among_text_change_nothing() -> None:
    ratio = BytesPerToken()

    for _ in range(10):
        ratio.observe(4500, 1000)
    for _ in range(4):
        ratio.observe(60, 1500)

    assert ratio.bytes_per_token == 4.5


def test_a_short_prompt_says_nothing() -> None:
    ratio = BytesPerToken()

    ratio.observe(3000, 1000)
    for _ in range(5):
        ratio.observe(1, MIN_SAMPLE_TOKENS - 1)
        ratio.observe(0, MIN_SAMPLE_TOKENS)

    assert ratio.bytes_per_token == 3.0


def test_old_prompts_are_forgotten() -> None:
    ratio = BytesPerToken()

    for _ in range(1000):
        ratio.observe(4000, 1000)
    for _ in range(WINDOW // 2 + 1):
        ratio.observe(2000, 1000)

    assert ratio.bytes_per_token == 2.0
