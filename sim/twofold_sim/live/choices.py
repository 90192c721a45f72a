"""Chat completions and completions, in the shapes of vLLM 0.32."""

from array import array
from collections.abc import Sequence
from typing import Any

import msgspec

from twofold_sim.live.bodies import Several, read_body
from twofold_sim.live.errors import BadRequestError, EngineFaultError
from twofold_sim.live.generating import Answer
from twofold_sim.live.ordering import Head, Order, Telling, Usage
from twofold_sim.live.rendering import render
from twofold_sim.live.tokens import Tokens, tokenize

DEFAULT_MAX_TOKENS = 16
"""Of a completion that has no limit; a chat goes on to its end."""

MAX_TOKEN_ID = 2**63 - 1

_DONE = b"data: [DONE]\n\n"

_encode = msgspec.json.Encoder().encode


class _ChatRequest(Several, kw_only=True):
    messages: list[Any]
    tools: Any = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    add_generation_prompt: bool | None = True
    continue_final_message: bool | None = False


class _CompletionRequest(Several, kw_only=True):
    prompt: str | list[Any]
    n: int = 1
    max_tokens: int | None = DEFAULT_MAX_TOKENS


_decode_chat = msgspec.json.Decoder(_ChatRequest, strict=False).decode
_decode_completion = msgspec.json.Decoder(_CompletionRequest, strict=False).decode


class Chat:
    """``/v1/chat/completions``."""

    id_prefix = "chatcmpl-"

    def read(self, body: bytes) -> Order:
        request = read_body(_decode_chat, body)
        prompt = render(
            request.messages,
            request.tools,
            begins_answer=bool(request.add_generation_prompt),
            goes_on=bool(request.continue_final_message),
        )
        if request.max_completion_tokens is not None:
            return request.order([prompt], request.max_completion_tokens, "max_completion_tokens")
        return request.order([prompt], request.max_tokens)

    def whole(
        self, head: Head, answers: Sequence[Answer], usage: Usage, params: dict[str, Any] | None
    ) -> bytes:
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": answer.text, "refusal": None},
                **_ending(answer),
            }
            for index, answer in enumerate(answers)
        ]
        return _encode(_body(head, "chat.completion", choices, usage, params))

    def telling(self, head: Head, order: Order) -> Telling:
        return ChoicesTelling(head, order, is_chat=True)

    def refused(self, error: EngineFaultError) -> bytes:
        return error.body()

    def broken(self, error: EngineFaultError) -> bytes:
        return b"data: " + error.body() + b"\n\n" + _DONE


class Completions:
    """``/v1/completions``."""

    id_prefix = "cmpl-"

    def read(self, body: bytes) -> Order:
        request = read_body(_decode_completion, body)
        return request.order(_prompts(request.prompt), request.max_tokens)

    def whole(
        self, head: Head, answers: Sequence[Answer], usage: Usage, params: dict[str, Any] | None
    ) -> bytes:
        choices = [
            {"index": index, "text": answer.text, **_ending(answer)}
            for index, answer in enumerate(answers)
        ]
        return _encode(_body(head, "text_completion", choices, usage, params))

    def telling(self, head: Head, order: Order) -> Telling:
        return ChoicesTelling(head, order, is_chat=False)

    def refused(self, error: EngineFaultError) -> bytes:
        return error.body()

    def broken(self, error: EngineFaultError) -> bytes:
        return b"data: " + error.body() + b"\n\n" + _DONE


class ChoicesTelling:
    """The events of both. What does not change from token to token is encoded once."""

    def __init__(self, head: Head, order: Order, *, is_chat: bool) -> None:
        kind = "chat.completion.chunk" if is_chat else "text_completion"
        told = {
            "id": head.answer_id,
            "object": kind,
            "created": head.created_at,
            "model": head.model,
        }
        self._head = b"data: " + _encode(told)[:-1] + b',"choices":['
        self._is_chat = is_chat
        self._choice_count = order.samples * len(order.prompts)
        opening = '{"index":%d,"delta":{"content":' if is_chat else '{"index":%d,"text":'
        self._openings = [
            self._head + (opening % index).encode() for index in range(self._choice_count)
        ]
        closing = b"}" if is_chat else b""
        self._closing = closing + b',"logprobs":null,"finish_reason":null,"token_ids":null}'
        self._last = closing + b',"logprobs":null,"finish_reason":%b,"stop_reason":%b'
        self._last += b',"token_ids":null}'
        self._order = order

    def open(self) -> bytes:
        return b""

    def begin(self, usage: Usage) -> bytes:
        if not self._is_chat:
            return b""
        delta = b'"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null'
        return b"".join(
            b'%b{"index":%d,%b}%b' % (self._head, index, delta, self._end_of(index, 0))
            for index in range(self._choice_count)
        )

    def token(self, choice: int, text: str, token_count: int) -> bytes:
        told = self._openings[choice] + _encode(text) + self._closing
        return told + self._end_of(choice, token_count)

    def last(self, choice: int, text: str, answer: Answer) -> bytes:
        ends = self._last % (_encode(answer.finish_reason), _encode(answer.stop_reason))
        told = self._openings[choice] + _encode(text) + ends
        return told + self._end_of(choice, len(answer.tokens))

    def end(self, usage: Usage) -> bytes:
        if not self._order.tells_usage:
            return _DONE
        return self._head + b'],"usage":' + _encode(usage_fields(usage)) + b"}\n\n" + _DONE

    def _end_of(self, choice: int, token_count: int) -> bytes:
        """End an event after so many tokens of *choice*."""
        order = self._order
        if not order.tells_usage_always:
            return b"]}\n\n"
        prompt_tokens = len(order.prompts[choice // order.samples])
        usage = {
            "prompt_tokens": prompt_tokens,
            "total_tokens": prompt_tokens + token_count,
            "completion_tokens": token_count,
        }
        return b'],"usage":' + _encode(usage) + b"}\n\n"


def usage_fields(usage: Usage) -> dict[str, Any]:
    """Return *usage* as both tell it, with ``--enable-prompt-tokens-details``."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "total_tokens": usage.prompt_tokens + usage.output_tokens,
        "completion_tokens": usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _prompts(prompt: str | list[Any]) -> list[Tokens]:
    """Return the prompts: one or several, each a text or a list of token ids."""
    if isinstance(prompt, str):
        return [tokenize(prompt)]
    if not prompt:
        raise BadRequestError("The decoder prompt cannot be empty", param="prompt")
    if all(type(token) is int for token in prompt):
        return [_given(prompt)]
    return [tokenize(one) if isinstance(one, str) else _given(one) for one in prompt]


def _given(token_ids: Any) -> Tokens:
    try:
        if not isinstance(token_ids, list):
            raise TypeError("no list")
        tokens: Tokens = array("Q", token_ids)
    except (TypeError, ValueError, OverflowError) as error:
        message = "prompt must be a text, a list of token ids, or a list of such"
        raise BadRequestError(message, param="prompt") from error
    if max(tokens, default=0) > MAX_TOKEN_ID:
        raise BadRequestError("a token id is out of vocabulary", param="prompt")
    return tokens


def _ending(answer: Answer) -> dict[str, Any]:
    return {
        "logprobs": None,
        "finish_reason": answer.finish_reason,
        "stop_reason": answer.stop_reason,
        "token_ids": None,
    }


def _body(
    head: Head,
    kind: str,
    choices: Sequence[dict[str, Any]],
    usage: Usage,
    params: dict[str, Any] | None,
) -> dict[str, Any]:
    return {
        "id": head.answer_id,
        "object": kind,
        "created": head.created_at,
        "model": head.model,
        "choices": choices,
        "service_tier": None,
        "system_fingerprint": None,
        "usage": usage_fields(usage),
        "kv_transfer_params": params,
    }
