from typing import Any

import msgspec
import pytest

from twofold_sim.live.choices import Completions
from twofold_sim.live.errors import BadRequestError, InvalidBodyError
from twofold_sim.live.ordering import MAX_SAMPLES, Common, Order, as_bad_request
from twofold_sim.live.tokens import tokenize

PROMPT = tokenize("hello")


def order(**fields: Any) -> Order:
    return msgspec.convert(fields, Common).order([PROMPT], fields.get("max_tokens"))


def test_an_order_has_what_was_asked_for() -> None:
    made = order(
        model="m",
        n=2,
        min_tokens=3,
        stop="x",
        stop_token_ids=[7],
        ignore_eos=True,
        stream=True,
        stream_options={"include_usage": True},
        cache_salt="s",
        kv_transfer_params={"do_remote_decode": True},
    )

    assert made == Order(
        model="m",
        prompts=[PROMPT],
        samples=2,
        min_tokens=3,
        stop=("x",),
        stop_token_ids=frozenset({7}),
        ignores_end=True,
        streams=True,
        tells_usage=True,
        salt="s",
        params={"do_remote_decode": True},
    )
    assert (made.asks_for_blocks, made.brings_blocks) == (True, False)


def test_nulls_are_as_if_they_were_not_there() -> None:
    nulls = dict.fromkeys(("n", "min_tokens", "stop", "stop_token_ids", "stream", "ignore_eos"))

    assert order(**nulls) == order()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 0}, None),
        ({"n": MAX_SAMPLES + 1}, None),
        ({"cache_salt": ""}, "cache_salt"),
        *(
            ({"cache_salt": salt}, "cache_salt")
            for salt in ("x" * 129, "a@b", "a/b", "a\\b", "a\0")
        ),
        ({"stop": [*"abcde"]}, "body.stop"),
        ({"stop": ["a", ""]}, None),
        ({"stream_options": {}, "stream": False}, "stream_options"),
    ],
)
def test_a_value_out_of_range_is_refused_as_vllm_does(
    fields: dict[str, Any], param: str | None
) -> None:
    if param == "stream_options":
        fields = {"stream_options": {"include_usage": True}}
    with pytest.raises(BadRequestError) as raised:
        order(**fields)

    assert raised.value.param == param


def test_as_much_as_vllm_allows_is_taken() -> None:
    salt = "x" * 128

    assert order(stop=[*"abcd"], cache_salt=salt).salt == salt


def test_several_prompts_share_the_most_answers_of_a_request() -> None:
    with pytest.raises(BadRequestError, match="at most 128 for 3 prompts together, got 150"):
        Common(n=50).order([PROMPT] * 3, None)


def test_an_answer_without_a_limit_may_fill_the_models_length() -> None:
    assert order().wish(prompt_tokens=90, max_model_tokens=100).max_tokens == 10


@pytest.mark.parametrize("max_tokens", [10, 11, 100])
def test_an_answer_ends_at_the_models_length_whatever_was_asked(max_tokens: int) -> None:
    wish = order(max_tokens=max_tokens).wish(prompt_tokens=90, max_model_tokens=100)

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
        order(**fields).wish(prompt_tokens, max_model_tokens=100)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "body.prompt"),
        (b"[]", "body"),
        (b'{"prompt":"a","n":"x"}', "body.n"),
        (
            b'{"prompt":"a","stream_options":{"include_usage":7}}',
            "body.stream_options.include_usage",
        ),
        (b'{"prompt":"a","stop_token_ids":[1,"x"]}', "body.stop_token_ids.1"),
        (b"{", None),
    ],
)
def test_a_body_that_is_none_names_the_way_to_the_field_as_vllm_does(
    body: bytes, param: str | None
) -> None:
    with pytest.raises(InvalidBodyError) as raised:
        Completions().read(body)

    assert (raised.value.param, raised.value.type) == (param, "Bad Request")


def test_a_field_that_is_missing_further_down_is_named_with_the_way_to_it() -> None:
    error = msgspec.ValidationError("Object missing required field `role` - at `$.messages[0]`")

    assert as_bad_request(error).param == "body.messages.0.role"
