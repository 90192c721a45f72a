from typing import Any

import pytest

from twofold_sim.live.errors import BadRequestError
from twofold_sim.live.ordering import Order
from twofold_sim.live.tokens import tokenize


def ask(**fields: Any) -> Order:
    return Order(model=None, prompts=[tokenize("hello")], **fields)


def test_an_answer_without_a_limit_may_fill_the_models_length() -> None:
    assert ask().wish(prompt_tokens=90, max_model_tokens=100).max_tokens == 10


@pytest.mark.parametrize("max_tokens", [10, 11, 100])
def test_an_answer_ends_at_the_models_length_whatever_was_asked(max_tokens: int) -> None:
    wish = ask(max_tokens=max_tokens).wish(prompt_tokens=90, max_model_tokens=100)

    assert wish.max_tokens == 10


@pytest.mark.parametrize(
    ("fields", "prompt_tokens", "message"),
    [
        ({}, 101, "maximum context length is 100 tokens"),
        ({}, 100, "max_tokens must be at least 1, got 0"),
        ({"max_tokens": 101}, 90, "max_tokens=101 cannot be greater than max_model_len=100"),
        ({"max_tokens": 0}, 90, "max_tokens must be at least 1, got 0"),
        ({"max_tokens": 5, "min_tokens": 6}, 90, "less than or equal to max_tokens=5, got 6"),
        ({"min_tokens": -1}, 90, "greater than or equal to 0, got -1"),
        ({}, 0, "cannot be empty"),
    ],
)
def test_what_does_not_fit_is_refused_in_vllms_words(
    fields: dict[str, Any], prompt_tokens: int, message: str
) -> None:
    with pytest.raises(BadRequestError, match=message):
        ask(**fields).wish(prompt_tokens, max_model_tokens=100)
