"""Streams that broke, and go on at another worker from the prompt and the text so far.

Sound only where the text is all that the client is told: one choice, no tools, no structured
output, no log probabilities. What the first worker sent is decoded only when this happens. Tokens
are counted by events, one each; a worker that puts two into one makes the answer that much longer
than ``max_tokens``.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from twofold_cluster.apis import Api
from twofold_cluster.errors import RequestError
from twofold_cluster.fields import decode_field
from twofold_cluster.legs import local_leg
from twofold_router.gateway.parsing import Call
from twofold_router.http import HeaderPairs, Responder, Source

_END = b"\n\n"
_DATA = b"data: "
_COMMENT = b":"

# Beside the text these change what an event holds, or what may follow it.
_UNSOUND = (
    *("tools", "functions", "logprobs", "top_logprobs", "prompt_logprobs", "return_token_ids"),
    *("structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"),
    *("echo", "suffix", "use_beam_search", "continue_final_message", "stop"),
    "truncate_prompt_tokens",  # would cut the prompt elsewhere, by what was said
)

_NEUTRAL = {
    "n": 1,
    "best_of": 1,
    # vLLM counts what was generated, and not the prompt. A repetition_penalty is of both.
    "presence_penalty": 0,
    "frequency_penalty": 0,
    # Else events are no tokens.
    "stream_interval": 1,
}
"""What a field may be where it is given."""

DEFAULT_COMPLETION_TOKENS = 16
"""Of a completion whose client names no limit; OpenAI's, and vLLM's."""

_LIMITS = ("max_tokens", "max_completion_tokens", "min_tokens")


class Continuation:
    """The rest of one stream: what to ask another worker for, and how its answer joins on."""

    def __init__(self, body: bytes, events: "_Events") -> None:
        self.body = body
        """Of the request for the rest."""
        self._events = events

    def sink(self, responder: Responder, keep_bytes: int) -> "JoiningSink":
        """Return what the other worker's stream is to be relayed to; it keeps up to *keep_bytes* of
        both parts together."""
        return JoiningSink(responder, self._events, keep_bytes)


def continuation_of(call: Call, sent: bytes) -> Continuation | None:
    """Make the request for what is missing after *sent*; None where that would not be sound."""
    try:
        if not _is_sound(call):
            return None
        events = _read(sent)
    except (RequestError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if events is None:
        return None
    fields = dict(call.fields)
    if call.api is Api.COMPLETIONS:
        fields.setdefault("max_tokens", _raw(DEFAULT_COMPLETION_TOKENS))
    for name in _LIMITS:
        value = decode_field(fields, name)
        if isinstance(value, int):
            if name != "min_tokens" and value <= events.count:
                return None  # only its last event is missing
            fields[name] = _raw(max(value - events.count, 0))
    if call.api is Api.CHAT:
        said = {"role": "assistant", "content": events.text}
        fields["messages"] = _raw([*decode_field(fields, "messages"), said])
        fields["add_generation_prompt"] = _raw(False)
        fields["continue_final_message"] = _raw(True)
    else:
        prompt = _prompt_text(call)
        assert prompt is not None
        fields["prompt"] = _raw(prompt + events.text)
    return Continuation(local_leg(fields), events)


class JoiningSink:
    """Passes a stream on as the rest of another one: with its id, and without its beginning."""

    def __init__(self, responder: Responder, events: "_Events", keep_bytes: int) -> None:
        self.started = True
        self._responder = responder
        self._events = events
        self._keep_bytes = keep_bytes
        self._sent: list[bytes] = []
        self._rest = b""
        self._keep(events.sent)

    def start(self, status: int, headers: HeaderPairs) -> None:
        raise AssertionError("the stream has begun")

    def write(self, piece: bytes) -> None:
        whole, end, self._rest = (self._rest + piece).rpartition(_END)
        for event in whole.split(_END) if end else ():
            joined = self._join(event)
            if joined:
                self._keep(joined)
                self._responder.write(joined)

    def finish(self) -> None:
        self._responder.write(self._rest)
        self._responder.finish()

    def follow(self, source: Source | None) -> None:
        self._responder.follow(source)

    def kept(self) -> bytes | None:
        """Return what the client has of both parts, None if that is more than was to be kept."""
        return None if self._keep_bytes < 0 else b"".join(self._sent)

    def _keep(self, piece: bytes) -> None:
        self._keep_bytes -= len(piece)
        if self._keep_bytes >= 0:
            self._sent.append(piece)
        else:
            self._sent.clear()

    def _join(self, event: bytes) -> bytes:
        """Return *event* as one of the first stream; one that is no part of an answer as it is."""
        try:
            chunk = _decode_chunk(event.removeprefix(_DATA))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return event + _END
        if chunk.choices is None:
            return event + _END
        if any(_begins(choice) for choice in chunk.choices):
            return b""
        data = msgspec.json.decode(event.removeprefix(_DATA)) | self._events.identity
        if chunk.usage:
            # The text so far was part of the prompt, and is part of the answer.
            count = self._events.count
            usage = chunk.usage
            told = {"prompt_tokens": usage.get("prompt_tokens", 0) - count}
            told["completion_tokens"] = usage.get("completion_tokens", 0) + count
            data["usage"] = usage | told
        return _DATA + msgspec.json.encode(data) + _END


class _Choice(msgspec.Struct):
    delta: dict[str, Any] | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    """An event with a part of an answer, or with its usage."""

    id: str | None = None
    created: int | None = None
    choices: list[_Choice] | None = None
    usage: dict[str, Any] | None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class _Events(msgspec.Struct):
    """What a stream has told: its text, the number of its tokens, its identity."""

    sent: bytes
    text: str
    count: int
    identity: Mapping[str, Any]


def _is_sound(call: Call) -> bool:
    fields = call.fields
    if call.api not in (Api.CHAT, Api.COMPLETIONS):
        return False
    if not all(_is_nothing(decode_field(fields, name)) for name in _UNSOUND):
        return False
    if any(decode_field(fields, name) not in (None, value) for name, value in _NEUTRAL.items()):
        return False
    response_format = decode_field(fields, "response_format")
    if response_format is not None and response_format != {"type": "text"}:
        return False
    return call.api is Api.CHAT or _prompt_text(call) is not None


def _prompt_text(call: Call) -> str | None:
    """Return the prompt of a completion, None if it is not one text. A list of one is that one, as
    for the engine."""
    match decode_field(call.fields, "prompt"):
        case str(text) | [str(text)]:
            return text
    return None


def _read(sent: bytes) -> _Events | None:
    """Read the events of *sent*; None if they are no beginning of a text."""
    if not sent.endswith(_END):
        return None  # the client has a part of an event, which nothing can complete
    texts: list[str] = []
    identity: dict[str, Any] = {}
    for event in sent.split(_END)[:-1]:
        if event.startswith(_COMMENT):
            continue
        if not event.startswith(_DATA):
            return None
        chunk = _decode_chunk(event.removeprefix(_DATA))
        if chunk.choices is None:
            return None
        told = {"id": chunk.id, "created": chunk.created}
        identity = identity or {name: value for name, value in told.items() if value is not None}
        for choice in chunk.choices:
            text = _text_of(choice)
            if text is None or choice.finish_reason is not None:
                return None
            texts += [text] if text else []
    return _Events(sent, "".join(texts), len(texts), identity)


def _text_of(choice: _Choice) -> str | None:
    """Return the text of an event's *choice*, None if it holds anything else."""
    if choice.delta is None:
        return choice.text
    delta = choice.delta
    others = [name for name in delta if name not in ("role", "content") and delta[name]]
    return None if others else delta.get("content") or ""


def _begins(choice: _Choice) -> bool:
    """Tell whether an event only says that an answer begins."""
    delta = choice.delta or {}
    return "role" in delta and not delta.get("content") and choice.finish_reason is None


def _is_nothing(value: object) -> bool:
    """Tell whether a field asks for nothing. 0 may ask for something: the log probability of each
    token, and of 0 others."""
    return value is None or value is False or value in ("", [], {})


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))
