"""``/v1/messages``, Anthropic's, with as much as a client needs of it: text in, text out."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from twofold_sim.live.bodies import Common, checked_stops, read_body
from twofold_sim.live.errors import EngineFaultError, InvalidBodyError
from twofold_sim.live.generating import Answer
from twofold_sim.live.ordering import Head, Order, Telling, Usage
from twofold_sim.live.rendering import render
from twofold_sim.live.tokens import Tokens

_encode = msgspec.json.Encoder().encode


class Message(msgspec.Struct):
    """What Anthropic's API has of a message; there is no more to it."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Any]


class _Thinking(msgspec.Struct, tag_field="type", tag="enabled"):
    budget_tokens: Annotated[int, msgspec.Meta(ge=1024)]


class _NoThinking(msgspec.Struct, tag_field="type", tag="disabled"):
    pass


class _AdaptiveThinking(msgspec.Struct, tag_field="type", tag="adaptive"):
    pass


Thinking = _Thinking | _NoThinking | _AdaptiveThinking
"""How a model that thinks is to do so; checked, and of no use to an engine without a model."""


class _MessagesRequest(Common, kw_only=True):
    messages: list[Message]
    max_tokens: int
    system: str | list[Any] | None = None
    tools: Any = None
    stop_sequences: list[str] | None = None
    thinking: Thinking | None = None


_decode = msgspec.json.Decoder(_MessagesRequest, strict=False).decode


class Messages:
    """One block of text is the whole content."""

    id_prefix = "msg_"

    def read(self, body: bytes) -> Order:
        request = read_body(_decode, body)
        if request.max_tokens < 1:
            raise InvalidBodyError("max_tokens must be positive", param="body.max_tokens")
        prompt = prompt_of(request.system, request.messages, request.tools)
        order = dataclasses.replace(
            request.order([prompt], request.max_tokens),
            stop=checked_stops(request.stop_sequences or (), "stop_sequences"),
        )
        thinking = request.thinking
        if (
            isinstance(thinking, _Thinking)
            and thinking.budget_tokens >= request.max_tokens
            and not order.asks_for_blocks
        ):
            message = "thinking.budget_tokens must be less than max_tokens"
            raise InvalidBodyError(message, param="body")
        return order

    def whole(
        self, head: Head, answers: Sequence[Answer], usage: Usage, params: dict[str, Any] | None
    ) -> bytes:
        (answer,) = answers
        content = [{"type": "text", "text": answer.text}]
        told = _message(head, content) | _ending(answer)
        return _encode({**told, "usage": _usage(usage), "kv_transfer_params": params})

    def telling(self, head: Head, order: Order) -> Telling:
        return MessagesTelling(head)

    def refused(self, error: EngineFaultError) -> bytes:
        """Encode *error* in Anthropic's shape, unless the body is none of the API: vLLM's web
        framework refuses that, in OpenAI's."""
        if isinstance(error, InvalidBodyError):
            return error.body()
        told = {"type": error.type, "message": error.message}
        return _encode({"type": "error", "error": told})

    def broken(self, error: EngineFaultError) -> bytes:
        return _event("error", error={"type": "internal_error", "message": error.message})


def prompt_of(system: object, messages: Sequence[Message], tools: Any) -> Tokens:
    """Return the tokens of a request's prompt."""
    first = [{"role": "system", "content": system}] if system else []
    return render([*first, *map(msgspec.structs.asdict, messages)], tools)


class MessagesTelling:
    """The events of one message with one block."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._answer: Answer | None = None

    def open(self) -> bytes:
        return b""

    def begin(self, usage: Usage) -> bytes:
        begun = {**_message(self._head, []), "stop_reason": None, "stop_sequence": None}
        told = {**_usage(usage), "output_tokens": 0}
        block = {"type": "text", "text": ""}
        return b"".join(
            (
                _event("message_start", message={**begun, "usage": told}),
                _event("content_block_start", index=0, content_block=block),
            )
        )

    def token(self, choice: int, text: str, token_count: int) -> bytes:
        delta = {"type": "text_delta", "text": text}
        return _event("content_block_delta", index=0, delta=delta)

    def last(self, choice: int, text: str, answer: Answer) -> bytes:
        self._answer = answer
        return self.token(choice, text, len(answer.tokens)) if text else b""

    def end(self, usage: Usage) -> bytes:
        assert self._answer is not None
        return b"".join(
            (
                _event("content_block_stop", index=0),
                _event("message_delta", delta=_ending(self._answer), usage=_usage(usage)),
                _event("message_stop"),
            )
        )


def _message(head: Head, content: list[Any]) -> dict[str, Any]:
    return {
        "id": head.answer_id,
        "type": "message",
        "role": "assistant",
        "model": head.model,
        "content": content,
    }


def _ending(answer: Answer) -> dict[str, Any]:
    if answer.finish_reason == "length":
        return {"stop_reason": "max_tokens", "stop_sequence": None}
    if isinstance(answer.stop_reason, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": answer.stop_reason}
    return {"stop_reason": "end_turn", "stop_sequence": None}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    }


def _event(name: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode({"type": name, **fields}))
