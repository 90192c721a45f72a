"""What an engine's answer says of the tokens it took."""

import re

import msgspec

from twofold_cluster.apis import Api
from twofold_router.placement import PromptUsage


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    """OpenAI's names of chat and completions, its names of responses, and Anthropic's."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    cache_read_input_tokens: int | None = None


class _Inner(msgspec.Struct):
    usage: _Usage | None = None


class _Answer(msgspec.Struct):
    """An answer, or an event that holds one."""

    usage: _Usage | None = None
    response: _Inner | None = None


class TokenUsage(msgspec.Struct, frozen=True):
    """The tokens of one answer."""

    prompt: PromptUsage
    output_tokens: int

    @property
    def total_tokens(self) -> int:
        return self.prompt.prompt_tokens + self.output_tokens


_decode = msgspec.json.Decoder(_Answer).decode

_EVENT = b"\ndata: {"

_TEXTS = {
    api: re.compile(rb'"(?:%b)": ?"((?:[^"\\]++|\\.)*+)' % names)
    for api, names in (
        (Api.CHAT, b"content|reasoning|arguments"),
        (Api.COMPLETIONS, b"text"),
        (Api.RESPONSES, b"delta"),
        (Api.MESSAGES, b"text|thinking|partial_json"),
    )
}
"""What a model has said, in the events of a stream. None is found within a text, where quotes are
escaped."""

_TOKEN_BYTES = 4
"""Of text in a token, about."""

_MOST_TOKEN_BYTES = 8
"""As much text in an event, as a mean, and it has more than one token (vLLM's ``stream_interval``,
speculative decoding)."""

_LAST_EVENTS = 2
"""Anthropic's last event says only that it is the last."""


def usage_of(answer: bytes) -> TokenUsage | None:
    """Read the usage in an answer; None when it has none that we understand."""
    try:
        decoded = _decode(answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    usage = decoded.usage or (decoded.response.usage if decoded.response else None)
    return None if usage is None else _translate(usage)


def usage_of_stream(body: bytes) -> TokenUsage | None:
    """Read the usage in the last events with data of a stream's *body*."""
    end = len(body)
    for _ in range(_LAST_EVENTS):
        at = body.rfind(_EVENT, 0, end)
        if at < 0:
            return None
        event = body[at + len(_EVENT) - 1 : end].partition(b"\n")[0]
        if b'"usage"' in event and (usage := usage_of(event)) is not None:
            return usage
        end = at
    return None


def event_count(body: bytes) -> int:
    """Return how many events with data a stream's *body* has: about as many as tokens."""
    return body.count(b"data: {")


def output_tokens_of_stream(api: Api, body: bytes, events_before: int) -> int:
    """Estimate how many tokens a stream has told, by its end *body* and the number of the events
    before that: one for each event, or more if the events have the text of more."""
    events = event_count(body)
    text_bytes = sum(map(len, _TEXTS[api].findall(body)))
    if text_bytes <= events * _MOST_TOKEN_BYTES:
        return events_before + events
    tokens = text_bytes // _TOKEN_BYTES
    return tokens + events_before * tokens // max(events, 1)


def _translate(usage: _Usage) -> TokenUsage | None:
    if usage.prompt_tokens is not None:
        details = usage.prompt_tokens_details
        cached = details.cached_tokens if details else None
        return TokenUsage(PromptUsage(usage.prompt_tokens, cached), usage.completion_tokens or 0)
    if usage.input_tokens is None:
        return None
    if usage.cache_read_input_tokens is not None:
        # Anthropic's input is what was not read from the cache.
        cached = usage.cache_read_input_tokens
        prompt = PromptUsage(usage.input_tokens + cached, cached)
    else:
        details = usage.input_tokens_details
        prompt = PromptUsage(usage.input_tokens, details.cached_tokens if details else None)
    return TokenUsage(prompt, usage.output_tokens or 0)
