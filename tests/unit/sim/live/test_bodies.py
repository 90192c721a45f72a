import json
from typing import Any

import msgspec
import pytest

from twofold_sim.live.bodies import MAX_SAMPLES, Several
from twofold_sim.live.choices import Chat, Completions
from twofold_sim.live.errors import BadRequestError, InvalidBodyError
from twofold_sim.live.messages import Messages
from twofold_sim.live.ordering import Dialect, Order
from twofold_sim.live.responses import Responses
from twofold_sim.live.tokens import tokenize

PROMPT = tokenize("hello")
ASKED = [{"role": "user", "content": "Hello"}]
BODIES: dict[str, tuple[Dialect, dict[str, Any]]] = {
    "chat": (Chat(), {"messages": ASKED}),
    "completions": (Completions(), {"prompt": "Hello"}),
    "responses": (Responses(), {"input": "Hello"}),
    "messages": (Messages(), {"messages": ASKED, "max_tokens": 2000}),
}
LIMIT = 2**63


def read(api: str, **fields: Any) -> Order:
    dialect, body = BODIES[api]
    return dialect.read(json.dumps({**body, **fields}).encode())


def order(**fields: Any) -> Order:
    return msgspec.convert(fields, Several).order([PROMPT], fields.get("max_tokens"))


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
    nulls = dict.fromkeys(("n", "stop", "stop_token_ids", "stream", "seed", "stream_options"))

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
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream_options": {"include_usage": True}, "stream": 0}, "stream_options"),
    ],
)
def test_a_value_out_of_range_is_refused_as_vllm_does(
    fields: dict[str, Any], param: str | None
) -> None:
    with pytest.raises(BadRequestError) as raised:
        order(**fields)

    assert raised.value.param == param


def test_as_much_as_vllm_allows_is_taken() -> None:
    salt = "x" * 128

    assert order(stop=[*"abcd"], cache_salt=salt).salt == salt


@pytest.mark.parametrize("api", BODIES)
@pytest.mark.parametrize(
    ("stream", "streams"),
    [
        *((on, True) for on in ("yes", "On", "t", "TRUE", "1", "y", 1, 1.0, True)),
        *((off, False) for off in ("no", "off", "f", "False", "0", "n", 0, 0.0, False, None)),
    ],
)
def test_a_boolean_may_be_a_word_or_a_number_as_pydantic_has_it(
    api: str, stream: Any, streams: bool
) -> None:
    assert read(api, stream=stream).streams is streams


@pytest.mark.parametrize("api", BODIES)
@pytest.mark.parametrize("stream", ["perhaps", "", " yes", 2, -1, 0.5, []])
def test_what_is_no_boolean_there_is_none_here(api: str, stream: Any) -> None:
    with pytest.raises(InvalidBodyError) as raised:
        read(api, stream=stream)

    assert raised.value.param == "body.stream"


def test_options_of_a_stream_that_say_nothing_need_no_stream() -> None:
    assert read("chat", stream_options={}) == read("chat")


@pytest.mark.parametrize(
    ("apis", "fields"),
    [
        *(("chat completions", {name: None}) for name in ("min_tokens", "ignore_eos")),
        ("completions", {"n": None}),
        *(
            ("chat completions responses", fields)
            for fields in (
                {"ignore_eos": None},
                {"include_stop_str_in_output": None},
                {"seed": LIMIT},
                {"seed": -LIMIT - 1},
                {"seed": "x"},
            )
        ),
        ("messages", {"messages": [{"role": "tool", "content": "a"}]}),
        ("messages", {"messages": [{"role": "user"}]}),
        ("messages", {"thinking": {"type": "enabled", "budget_tokens": 1023}}),
        ("messages", {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
        ("messages", {"thinking": {"type": "enabled"}}),
        ("messages", {"thinking": {"type": "deep"}}),
    ],
)
def test_what_vllm_refuses_is_refused(apis: str, fields: dict[str, Any]) -> None:
    for api in apis.split():
        with pytest.raises(InvalidBodyError) as raised:
            read(api, **fields)

        assert (raised.value.param or "").startswith("body")


@pytest.mark.parametrize(
    ("apis", "fields"),
    [
        ("chat", {"n": None}),
        ("chat completions responses", {"seed": LIMIT - 1}),
        ("chat completions responses", {"seed": -LIMIT}),
        ("responses", {"stop": ""}),
        ("responses messages", {"n": 2, "min_tokens": None, "stream_options": {"a": 1}}),
        ("messages", {"stop": "", "ignore_eos": None, "seed": "x"}),
        ("messages", {"thinking": {"type": "enabled", "budget_tokens": 1999}}),
        *(("messages", {"thinking": {"type": kind}}) for kind in ("disabled", "adaptive")),
    ],
)
def test_what_vllm_takes_or_does_not_look_at_changes_nothing(
    apis: str, fields: dict[str, Any]
) -> None:
    for api in apis.split():
        assert read(api, **fields) == read(api)


def test_leg_1_need_not_have_room_for_the_thinking_of_leg_2() -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    params = {"do_remote_decode": True}

    assert read("messages", thinking=thinking, max_tokens=1, kv_transfer_params=params).params


def test_several_prompts_share_the_most_answers_of_a_request() -> None:
    with pytest.raises(BadRequestError, match="at most 128 for 3 prompts together, got 150"):
        Several(n=50).order([PROMPT] * 3, None)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "body.prompt"),
        (b"[]", "body"),
        (b'{"prompt":"a","n":"x"}', "body.n"),
        (
            b'{"prompt":"a","stream":true,"stream_options":{"include_usage":7}}',
            "body.stream_options.include_usage",
        ),
        (b'{"prompt":"a","stop_token_ids":[1,"x"]}', "body.stop_token_ids.1"),
        (b"", "body"),
        (b"null", "body"),
        (b"{", "body.1"),
        (b'{"prompt":tru}', "body.10"),
        (b'{"n":"x"', "body.8"),
    ],
)
def test_a_body_that_is_none_names_the_way_to_the_field_as_vllm_does(
    body: bytes, param: str | None
) -> None:
    with pytest.raises(InvalidBodyError) as raised:
        Completions().read(body)

    assert (raised.value.param, raised.value.type) == (param, "Bad Request")


def test_json_that_cannot_be_read_is_told_of_in_vllms_words() -> None:
    with pytest.raises(InvalidBodyError) as raised:
        Chat().read(b'{"messages":[],}')

    assert raised.value.message == (
        "1 validation error:\n"
        "  {'type': 'json_invalid', 'loc': 'body.15', 'msg': 'JSON decode error', "
        "'input': '<dict of 0 items>', "
        "'ctx': {'error': 'Expecting property name enclosed in double quotes'}}"
    )


@pytest.mark.parametrize("body", [b'{"messages":["\xff"]}', b'{"messages":' + b"[" * 100_000])
@pytest.mark.parametrize("api", BODIES)
def test_what_is_no_text_or_too_deep_is_answered_by_the_web_framework(
    api: str, body: bytes
) -> None:
    dialect, _ = BODIES[api]
    with pytest.raises(InvalidBodyError) as raised:
        dialect.read(body)

    assert raised.value.status == 400
    assert dialect.refused(raised.value) == b'{"detail":"There was an error parsing the body"}'


def test_a_field_that_is_missing_further_down_is_named_with_the_way_to_it() -> None:
    with pytest.raises(InvalidBodyError) as raised:
        read("messages", messages=[ASKED[0], {"role": "user"}])

    assert raised.value.param == "body.messages.1.content"
