"""The rest of a broken stream: what is asked for, and how it is joined on."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold_cluster.apis import Api, PassedOnApi
from twofold_cluster.fields import decode_fields
from twofold_router.access import ANONYMOUS, Classes
from twofold_router.gateway.continuing import (
    DEFAULT_COMPLETION_TOKENS,
    Continuation,
    continuation_of,
)
from twofold_router.gateway.parsing import Call
from twofold_router.http import HeaderPairs
from twofold_router.http.backpressure import Source
from twofold_router.testing.answers import DONE, Answer, events

TERMS = Classes().resolve({}, ANONYMOUS)


class Written:
    """Stands for the client."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.is_finished = False
        self.followed: list[object] = []

    def write(self, piece: bytes) -> None:
        self.pieces.append(piece)

    def finish(self) -> None:
        self.is_finished = True

    def follow(self, source: Source | None) -> None:
        self.followed.append(source)

    def start(self, status: int, headers: HeaderPairs) -> None: ...


def call(api: Api | PassedOnApi = Api.CHAT, **fields: Any) -> Call:
    told = {"messages": [{"role": "user", "content": "hi"}], "prompt": "hi", **fields}
    decoded = decode_fields(msgspec.json.encode({"model": "m", **told}))
    return Call("id", api, decoded, "m", ANONYMOUS, TERMS, [], 0.0)


def stream(
    api: Api, first: int, end: int, name: str = "one", *, is_over: bool = True
) -> list[bytes]:
    texts = tuple(f"t{number} " for number in range(first, end))
    answer = Answer(name, len(name), "m", texts, False, 10 + first, 0)
    told = list(events(api, answer, tells_usage=is_over))
    return told if is_over else told[:-1]


def begun(api: Api, end: int) -> bytes:
    """Return a stream that broke before token *end*."""
    return b"".join(stream(api, 0, end + 1, is_over=False)[:-1])


def continuation(api: Api = Api.CHAT, end: int = 2, **fields: Any) -> Continuation:
    made = continuation_of(call(api, **fields), begun(api, end))
    assert made is not None
    return made


def test_a_chat_goes_on_with_what_was_said() -> None:
    body = json.loads(continuation(max_tokens=9, min_tokens=1, temperature=0.5).body)

    assert body["messages"][-1] == {"role": "assistant", "content": "t0 t1 "}
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert (body["max_tokens"], body["min_tokens"], body["temperature"]) == (7, 0, 0.5)


@pytest.mark.parametrize("prompt", ["hi", ["hi"]])
def test_a_completion_goes_on_from_prompt_and_text(prompt: Any) -> None:
    body = json.loads(continuation(Api.COMPLETIONS, max_tokens=9, prompt=prompt).body)

    assert body["prompt"] == "hit0 t1 "
    assert body["max_tokens"] == 7


def test_a_completion_without_a_limit_goes_on_to_the_engines_own() -> None:
    body = json.loads(continuation(Api.COMPLETIONS).body)

    assert body["max_tokens"] == DEFAULT_COMPLETION_TOKENS - 2
    assert "max_tokens" not in json.loads(continuation(Api.CHAT).body)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_an_answer_that_is_as_long_as_it_may_be_does_not_go_on(name: str) -> None:
    longer: dict[str, Any] = {name: 3}
    as_long: dict[str, Any] = {name: 2}

    assert continuation_of(call(**longer), begun(Api.CHAT, 2)) is not None
    assert continuation_of(call(**as_long), begun(Api.CHAT, 2)) is None


@pytest.mark.parametrize("api", [Api.MESSAGES, Api.RESPONSES, PassedOnApi.TOKENIZE])
def test_other_apis_do_not_go_on(api: Api | PassedOnApi) -> None:
    assert continuation_of(call(api), begun(Api.CHAT, 2)) is None


HARMLESS: list[dict[str, Any]] = [
    {"n": 1},
    {"n": None},
    {"presence_penalty": 0, "frequency_penalty": 0.0, "stream_interval": 1},
    {"repetition_penalty": 1.5, "truncate_prompt_tokens": None},
    {"tools": []},
    {"tools": None},
    {"logprobs": False},
    {"stop": None},
    {"response_format": {"type": "text"}},
    {"user": "x", "seed": 1, "stream_options": {"include_usage": True}},
]


@pytest.mark.parametrize("fields", HARMLESS, ids=str)
def test_what_asks_for_nothing_more_than_text_is_sound(fields: dict[str, Any]) -> None:
    assert continuation_of(call(**fields), begun(Api.CHAT, 2)) is not None


HARMFUL: list[dict[str, Any]] = [
    {"n": 2},
    {"best_of": 2},
    {"presence_penalty": 0.5},
    {"frequency_penalty": -1},
    {"stream_interval": 500},
    {"truncate_prompt_tokens": -1},
    {"tools": [{}]},
    {"functions": [{}]},
    {"logprobs": True},
    {"logprobs": 0},
    {"prompt_logprobs": 0},
    {"return_token_ids": True},
    {"structured_outputs": {"json": {}}},
    {"guided_json": {}, "guided_regex": "a"},
    {"guided_choice": ["a"]},
    {"guided_grammar": "x"},
    {"response_format": {"type": "json_schema"}},
    {"echo": True},
    {"suffix": "x"},
    {"use_beam_search": True},
    {"continue_final_message": True},
    {"stop": "x"},
]


@pytest.mark.parametrize("api", [Api.CHAT, Api.COMPLETIONS])
@pytest.mark.parametrize("fields", HARMFUL, ids=str)
def test_what_asks_for_more_than_text_does_not_go_on(api: Api, fields: dict[str, Any]) -> None:
    assert continuation_of(call(api, **fields), begun(api, 2)) is None


@pytest.mark.parametrize("prompt", [["a", "b"], [1, 2], [[1, 2]], [], None, 1])
def test_a_prompt_that_is_no_text_does_not_go_on(prompt: Any) -> None:
    assert continuation_of(call(Api.COMPLETIONS, prompt=prompt), begun(Api.COMPLETIONS, 2)) is None


UNREADABLE = [
    b"data: {",
    b"data: {}\n\n",
    b"data: [DONE]\n\n",
    b"data: {no JSON}\n\n",
    b'data: {"choices": 1}\n\n',
    b'data: {"choices": [1]}\n\n',
    b'data: {"choices": [{"delta": 1}]}\n\n',
    b'data: {"choices": [{}]}\n\n',
    b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\n',
    b'data: {"choices": [{"delta": {"tool_calls": [1]}}]}\n\n',
    b'data: {"choices": [{"delta": {"reasoning": "a"}}]}\n\n',
    b'data: {"error": {"message": "x"}}\n\n',
]


@pytest.mark.parametrize("event", UNREADABLE)
def test_what_is_no_beginning_of_a_text_does_not_go_on(event: bytes) -> None:
    assert continuation_of(call(), event) is None
    assert continuation_of(call(), begun(Api.CHAT, 2) + event) is None


def joined(made: Continuation, pieces: list[bytes], keep_bytes: int = 10_000) -> Written:
    client = Written()
    sink = made.sink(client, keep_bytes)  # type: ignore[arg-type]
    for piece in pieces:
        sink.write(piece)
    sink.finish()
    return client


def events_of(body: bytes) -> list[Any]:
    return [json.loads(each[6:]) for each in body.split(b"\n\n") if each.startswith(b"data: {")]


@pytest.mark.parametrize("api", [Api.CHAT, Api.COMPLETIONS])
def test_the_rest_is_of_the_first_stream(api: Api) -> None:
    client = joined(continuation(api), stream(api, 2, 4, "another"))

    told = events_of(b"".join(client.pieces))
    assert {(event["id"], event["created"]) for event in told} == {("one", 3)}
    texts = [c.get("text") or c["delta"]["content"] for event in told for c in event["choices"]]
    assert texts == ["t2 ", "t3 "]
    assert client.pieces[-2:] == [DONE, b""]
    assert client.is_finished


def test_the_usage_is_that_of_both() -> None:
    client = joined(continuation(), stream(Api.CHAT, 2, 4))

    (usage,) = [event["usage"] for event in events_of(b"".join(client.pieces)) if "usage" in event]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (12 - 2, 2 + 2)
    assert usage["total_tokens"] == 14


@given(st.data())
def test_however_the_rest_is_cut_into_pieces_the_client_sees_the_same(data: st.DataObject) -> None:
    made = continuation()
    whole = b"".join(stream(Api.CHAT, 2, 4))
    ends = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1))))
    pieces = [whole[a:b] for a, b in zip([0, *ends], [*ends, len(whole)], strict=True)]

    assert b"".join(joined(made, pieces).pieces) == b"".join(joined(made, [whole]).pieces)


STRANGE = [b": a comment\n\n", b"data: {no JSON}\n\n", b'data: {"choices": 1}\n\n', b"data: 1\n\n"]


@pytest.mark.parametrize("event", [*STRANGE, b'data: {"error": {}}\n\n', b"half of an eve"])
def test_what_is_no_part_of_an_answer_is_passed_on_as_it_is(event: bytes) -> None:
    assert b"".join(joined(continuation(), [event]).pieces) == event


def test_what_was_sent_is_kept_for_another_break() -> None:
    client = Written()
    sink = continuation().sink(client, 10_000)  # type: ignore[arg-type]
    for piece in stream(Api.CHAT, 2, 5, "another", is_over=False)[:-1]:
        sink.write(piece)
    sink.write(b'data: {"half')

    kept = sink.kept()
    assert kept == begun(Api.CHAT, 2) + b"".join(client.pieces)
    again = continuation_of(call(), kept)
    assert again is not None
    assert json.loads(again.body)["messages"][-1]["content"] == "t0 t1 t2 t3 "


def kept_of(keep_bytes: int) -> bytes | None:
    sink = continuation().sink(Written(), keep_bytes)  # type: ignore[arg-type]
    for piece in stream(Api.CHAT, 2, 9, is_over=False):
        sink.write(piece)
    return sink.kept()


def test_no_more_is_kept_than_may_be() -> None:
    everything = kept_of(10_000)
    assert everything is not None
    size_bytes = len(everything)

    assert kept_of(size_bytes) == everything
    assert kept_of(size_bytes - 1) is None
    assert kept_of(0) is None


def test_a_slow_client_slows_the_other_worker_down() -> None:
    client = Written()
    sink = continuation().sink(client, 0)  # type: ignore[arg-type]
    sink.follow(None)

    assert client.followed == [None]
