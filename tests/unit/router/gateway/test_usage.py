"""What is read of an engine's answer about its tokens, in the shapes of all four APIs."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.apis import Api
from twofold_router.gateway.usage import (
    TokenUsage,
    event_count,
    output_tokens_of_stream,
    usage_of,
    usage_of_stream,
)
from twofold_router.placement import PromptUsage
from twofold_router.testing.answers import Answer, events, whole


def answer(cached_tokens: int | None = 32, text_count: int = 3) -> Answer:
    texts = tuple(f"a{number} " for number in range(text_count))
    return Answer("id", 1, "m", texts, False, 100, cached_tokens)


def usage(cached_tokens: int | None, output_tokens: int = 3) -> TokenUsage:
    return TokenUsage(PromptUsage(100, cached_tokens), output_tokens)


CACHED = [None, 0, 32]


@pytest.mark.parametrize("cached_tokens", CACHED)
@pytest.mark.parametrize("api", Api)
def test_it_is_read_in_an_answer_in_one_piece(api: Api, cached_tokens: int | None) -> None:
    assert usage_of(whole(api, answer(cached_tokens))) == usage(cached_tokens)


@pytest.mark.parametrize("cached_tokens", CACHED)
@pytest.mark.parametrize("api", Api)
def test_it_is_read_at_the_end_of_a_stream(api: Api, cached_tokens: int | None) -> None:
    stream = b"".join(events(api, answer(cached_tokens), tells_usage=True))

    assert usage_of_stream(stream) == usage(cached_tokens)


@pytest.mark.parametrize("api", [Api.CHAT, Api.COMPLETIONS])
def test_a_stream_that_was_not_asked_for_it_has_none(api: Api) -> None:
    stream = b"".join(events(api, answer(), tells_usage=False))

    assert usage_of_stream(stream) is None


@pytest.mark.parametrize(("api", "more"), [(Api.CHAT, 1), (Api.COMPLETIONS, 0)])
def test_the_events_of_a_stream_are_about_its_tokens(api: Api, more: int) -> None:
    stream = b"".join(events(api, answer(text_count=40), tells_usage=False))

    assert event_count(stream) == 40 + more


@pytest.mark.parametrize("api", [Api.CHAT, Api.COMPLETIONS, Api.MESSAGES])
@pytest.mark.parametrize("text", ["four" * 100, '"\\n' * 100, '"content":"x"'])
def test_what_events_of_several_tokens_hold_counts_by_its_text(api: Api, text: str) -> None:
    told = Answer("id", 1, "m", (text,) * 40, False, 100, None)
    stream = b"".join(events(api, told, tells_usage=False))
    said_bytes = 40 * (len(json.dumps(text)) - 2)
    tokens = output_tokens_of_stream(api, stream, 0)

    assert max(40, said_bytes // 4) <= tokens <= said_bytes // 4 + 5


@pytest.mark.parametrize("api", Api)
def test_an_event_of_one_token_counts_as_one(api: Api) -> None:
    stream = b"".join(events(api, answer(text_count=40), tells_usage=False))

    assert output_tokens_of_stream(api, stream, 7) == 7 + event_count(stream)


NONE: list[Any] = [
    {},
    {"usage": None},
    {"usage": {}},
    {"usage": []},
    {"usage": {"prompt_tokens": "7"}},
    {"usage": {"completion_tokens": 7}},
    {"response": None},
    {"response": {"usage": None}},
    [],
    1,
]


@pytest.mark.parametrize("told", NONE, ids=str)
def test_what_is_not_told_or_not_understood_is_none(told: Any) -> None:
    raw = json.dumps(told).encode()

    assert usage_of(raw) is None
    assert usage_of_stream(b"data: {}\n\ndata: " + raw + b"\n\ndata: [DONE]\n\n") is None


def test_a_text_that_speaks_of_usage_is_none() -> None:
    said = {"choices": [{"delta": {"content": '\ndata: {"usage": {"prompt_tokens": 1}}'}}]}
    event = b"data: " + json.dumps(said).encode() + b"\n\n"

    assert usage_of_stream(event * 3 + b"data: [DONE]\n\n") is None


def test_an_answer_of_embeddings_has_a_prompt_only() -> None:
    raw = b'{"data": [], "usage": {"prompt_tokens": 9, "total_tokens": 9, "completion_tokens": 0}}'

    read = usage_of(raw)

    assert read == TokenUsage(PromptUsage(9, None), 0)
    assert read.total_tokens == 9


@given(st.binary(max_size=300))
def test_no_bytes_whatever_raise(raw: bytes) -> None:
    usage_of(raw)
    usage_of_stream(raw)
    usage_of_stream(b"\ndata: {" + raw)
    event_count(raw)
    for api in Api:
        assert output_tokens_of_stream(api, raw, 1) >= 1
