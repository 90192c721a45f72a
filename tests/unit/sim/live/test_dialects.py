"""All four APIs: what is asked in one body, and told whole or as events."""

from typing import Any

import msgspec
import pytest

from twofold_sim.live.choices import Chat, Completions
from twofold_sim.live.errors import (
    BadRequestError,
    InvalidBodyError,
    LoadFailedError,
    UnknownModelError,
)
from twofold_sim.live.generating import Answer, Wish, generate
from twofold_sim.live.messages import Messages
from twofold_sim.live.ordering import Dialect, Head, Usage
from twofold_sim.live.rendering import render
from twofold_sim.live.responses import Responses
from twofold_sim.live.tokens import tokenize

HEAD = Head("x-1", 1_700_000_000, "m")
USAGE = Usage(prompt_tokens=40, cached_tokens=16, output_tokens=5)
ASKED = [{"role": "user", "content": "Hello"}]
ANSWER = generate(tokenize("Hello"), Wish(5, ignores_end=True))
BODIES: list[tuple[Dialect, dict[str, Any]]] = [
    (Chat(), {"messages": ASKED, "max_tokens": 5}),
    (Completions(), {"prompt": "Hello", "max_tokens": 5}),
    (Responses(), {"input": "Hello", "max_output_tokens": 5}),
    (Messages(), {"messages": ASKED, "max_tokens": 5}),
]


def encoded(body: Any) -> bytes:
    return msgspec.json.encode(body)


def events(raw: bytes) -> list[dict[str, Any]]:
    """Return the data of the events, without ``[DONE]``."""
    found = []
    for event in raw.split(b"\n\n")[:-1]:
        data = event.rpartition(b"data: ")[2]
        if data != b"[DONE]":
            found.append(msgspec.json.decode(data))
    return found


def stream(dialect: Dialect, body: dict[str, Any], answer: Answer = ANSWER) -> bytes:
    telling = dialect.telling(HEAD, dialect.read(encoded({**body, "stream": True})))
    pieces = [telling.open(), telling.begin(USAGE)]
    pieces += [telling.token(0, text, at) for at, text in enumerate(answer.texts[:-1], 1)]
    pieces += [telling.last(0, answer.texts[-1], answer), telling.end(USAGE)]
    return b"".join(pieces)


def text_of(event: dict[str, Any]) -> str:
    if "choices" in event:
        choice = (event["choices"] or [{}])[0]
        return choice.get("text") or choice.get("delta", {}).get("content") or ""
    delta = event.get("delta")
    return delta if isinstance(delta, str) else (delta or {}).get("text", "")


@pytest.mark.parametrize(("dialect", "body"), BODIES)
def test_the_events_of_a_stream_are_the_text_token_by_token(
    dialect: Dialect, body: dict[str, Any]
) -> None:
    told = [text_of(event) for event in events(stream(dialect, body))]

    assert [text for text in told if text] == ANSWER.texts


@pytest.mark.parametrize(("dialect", "body"), BODIES)
def test_an_answer_in_one_piece_has_the_text_and_the_params(
    dialect: Dialect, body: dict[str, Any]
) -> None:
    whole = dialect.whole(HEAD, [ANSWER], USAGE, {"remote_port": 1})

    assert encoded(ANSWER.text)[1:-1] in whole
    assert msgspec.json.decode(whole)["kv_transfer_params"] == {"remote_port": 1}


@pytest.mark.parametrize("dialect", [Chat(), Completions(), Messages()])
def test_a_failed_load_is_told_in_a_stream(dialect: Dialect) -> None:
    told = dialect.broken(LoadFailedError())

    assert told is not None
    (event,) = events(told)
    assert b"Internal server error" in encoded(event)


def test_a_stream_of_responses_opens_before_anything_is_computed_and_breaks_off_untold() -> None:
    telling = Responses().telling(HEAD, Responses().read(encoded(BODIES[2][1])))

    assert [event["type"] for event in events(telling.open())] == [
        "response.created",
        "response.in_progress",
    ]
    assert encoded(BODIES[2][0].broken(LoadFailedError())) == b"null"


def test_messages_tell_of_errors_in_anthropics_shape() -> None:
    error = UnknownModelError("The model `m` does not exist.", param="model")
    expected = {
        "type": "error",
        "error": {"type": "NotFoundError", "message": "The model `m` does not exist."},
    }

    assert msgspec.json.decode(Messages().refused(error)) == expected
    assert Chat().refused(error) == error.body()


def test_a_body_that_is_none_is_refused_in_openais_shape_everywhere() -> None:
    error = InvalidBodyError("no body", param="body")

    assert {dialect.refused(error) for dialect, _ in BODIES} == {error.body()}


@pytest.mark.parametrize(("dialect", "body"), BODIES)
def test_what_is_no_request_is_refused(dialect: Dialect, body: dict[str, Any]) -> None:
    for raw in (b"", b"[]", b"{}", b"{", encoded({**body, "stream": "perhaps"}), b'{"a":"\xff"}'):
        with pytest.raises(BadRequestError):
            dialect.read(raw)


@pytest.mark.parametrize(("dialect", "body"), BODIES)
def test_the_limit_of_each_api_is_read(dialect: Dialect, body: dict[str, Any]) -> None:
    assert dialect.read(encoded(body)).max_tokens == 5


@pytest.mark.parametrize(
    ("dialect", "body", "name"),
    [
        *((dialect, body, [*body][-1]) for dialect, body in BODIES),
        (Chat(), {"messages": ASKED, "max_completion_tokens": 5}, "max_completion_tokens"),
    ],
)
def test_a_limit_above_the_models_length_is_refused_by_its_name_there(
    dialect: Dialect, body: dict[str, Any], name: str
) -> None:
    order = dialect.read(encoded(body))

    with pytest.raises(BadRequestError, match=f"{name}=5 cannot be greater") as raised:
        order.wish(1, max_model_tokens=4)

    assert raised.value.param == name


def test_the_usage_tells_what_was_cached() -> None:
    expected = {
        "prompt_tokens": 40,
        "total_tokens": 45,
        "completion_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 16},
    }

    assert msgspec.json.decode(Chat().whole(HEAD, [ANSWER], USAGE, None))["usage"] == expected
    asked = {**BODIES[0][1], "stream_options": {"include_usage": True}}
    assert events(stream(Chat(), asked))[-1]["usage"] == expected
    assert "usage" not in events(stream(*BODIES[0]))[-1]


@pytest.mark.parametrize(("dialect", "body"), BODIES[:2])
def test_the_usage_of_each_event_is_told_on_demand(dialect: Dialect, body: dict[str, Any]) -> None:
    options = {"continuous_usage_stats": True, "include_usage": True}
    prompt_tokens = len(dialect.read(encoded(body)).prompts[0])
    told = [each["usage"] for each in events(stream(dialect, {**body, "stream_options": options}))]

    assert [each["completion_tokens"] for each in told[-6:]] == [1, 2, 3, 4, 5, 5]
    assert told[0] == {
        "prompt_tokens": prompt_tokens,
        "total_tokens": prompt_tokens + told[0]["completion_tokens"],
        "completion_tokens": told[0]["completion_tokens"],
    }
    alone = {**body, "stream_options": {"continuous_usage_stats": True}}
    assert not any("usage" in event for event in events(stream(dialect, alone)))


def test_a_stream_ends_with_its_reason_then_done() -> None:
    raw = stream(*BODIES[0])

    assert events(raw)[-1]["choices"][0]["finish_reason"] == "length"
    assert raw.endswith(b"data: [DONE]\n\n")


def test_a_chat_has_a_newer_name_for_its_limit() -> None:
    body = {"messages": ASKED, "max_tokens": 5, "max_completion_tokens": 3}

    assert Chat().read(encoded(body)).max_tokens == 3


def test_a_completion_without_a_limit_has_sixteen_tokens() -> None:
    assert Completions().read(b'{"prompt":"a"}').max_tokens == 16
    assert Chat().read(encoded({"messages": ASKED})).max_tokens is None


def test_a_completion_has_one_prompt_or_several_as_texts_or_tokens() -> None:
    ids = tokenize("Hello big").tolist()

    def prompts(value: Any) -> list[list[int]]:
        return [list(one) for one in Completions().read(encoded({"prompt": value})).prompts]

    assert prompts("Hello big") == prompts(ids) == [ids]
    assert prompts(["Hello big", "a"]) == prompts([ids, tokenize("a").tolist()])


@pytest.mark.parametrize("prompt", [[], [1.5], [[1], "a", {}], [-1], [2**63], 5, [[-2]]])
def test_what_is_no_prompt_is_refused(prompt: Any) -> None:
    with pytest.raises(BadRequestError):
        Completions().read(encoded({"prompt": prompt}))


def test_one_conversation_is_one_prompt_in_three_apis() -> None:
    asked = [{"role": "system", "content": "Be brief."}, *ASKED]
    chat = Chat().read(encoded({"messages": asked})).prompts
    responses = Responses().read(encoded({"instructions": "Be brief.", "input": "Hello"})).prompts
    messages = Messages().read(encoded({"system": "Be brief.", "messages": ASKED, "max_tokens": 1}))

    assert chat == responses == messages.prompts == [render(asked)]


def test_an_answer_of_responses_goes_back_into_its_next_input() -> None:
    output = msgspec.json.decode(Responses().whole(HEAD, [ANSWER], USAGE, None))["output"]
    first = Responses().read(encoded({"input": ASKED})).prompts[0]

    second = Responses().read(encoded({"input": [*ASKED, *output, *ASKED]})).prompts[0]

    assert second[: len(first)] == first
    assert second == render([*ASKED, {"role": "assistant", "content": ANSWER.text}, *ASKED])


def test_a_stream_of_responses_that_is_cut_is_completed_too_and_says_why() -> None:
    last = events(stream(*BODIES[2]))[-1]

    assert last["type"] == "response.completed"
    assert last["response"]["status"] == "incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


def test_messages_tell_why_they_ended() -> None:
    def reason(answer: Answer) -> tuple[str, str | None]:
        told = msgspec.json.decode(Messages().whole(HEAD, [answer], USAGE, None))
        return told["stop_reason"], told["stop_sequence"]

    assert reason(ANSWER) == ("max_tokens", None)
    assert reason(Answer([1], ["a"], "stop")) == ("end_turn", None)
    assert reason(Answer([1], ["a"], "stop", "x")) == ("stop_sequence", "x")


def test_several_choices_are_told_by_their_numbers() -> None:
    order = Chat().read(encoded({"messages": ASKED, "n": 2, "stream": True}))
    telling = Chat().telling(HEAD, order)
    raw = telling.begin(USAGE) + telling.token(1, "b", 1) + telling.last(0, "a", ANSWER)

    assert [event["choices"][0]["index"] for event in events(raw)] == [0, 1, 1, 0]
