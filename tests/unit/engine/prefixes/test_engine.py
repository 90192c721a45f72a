import json

import pytest

from twofold_engine.prefixes.engine import read_answer
from twofold_engine.prefixes.errors import InvalidPromptError, NotAnsweredError


@pytest.mark.parametrize(
    ("details", "cached"), [({"cached_tokens": 48}, 48), ({"cached_tokens": None}, 0), (None, 0)]
)
def test_an_answer_says_how_much_of_the_prompt_was_cached(
    details: dict[str, int | None] | None, cached: int
) -> None:
    answer = {"usage": {"prompt_tokens": 70, "prompt_tokens_details": details}, "choices": []}

    computed = read_answer("d-0", 200, json.dumps(answer).encode())

    assert (computed.token_count, computed.cached_token_count) == (70, cached)


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_a_prompt_that_is_refused_is_the_callers_to_mend(status: int) -> None:
    with pytest.raises(InvalidPromptError, match=f"d-0 refuses the prompt: {status}: too long"):
        read_answer("d-0", status, b"too long")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_worker_that_takes_nothing_now_is_asked_again(status: int) -> None:
    with pytest.raises(NotAnsweredError, match=f"d-0 refuses the prompt: {status}: draining"):
        read_answer("d-0", status, b"draining")


def test_an_answer_without_usage_says_nothing() -> None:
    with pytest.raises(NotAnsweredError, match="d-0 does not say what was cached"):
        read_answer("d-0", 200, b"{}")
