"""``/v1/responses``, with as much as a client needs of it: text in, text out, nothing stored."""

from collections.abc import Sequence
from itertools import count
from typing import Any

import msgspec

from twofold_sim.live.bodies import Sampled, read_body
from twofold_sim.live.errors import BadRequestError, EngineFaultError
from twofold_sim.live.generating import Answer
from twofold_sim.live.ordering import Head, Order, Telling, Usage
from twofold_sim.live.rendering import render

_encode = msgspec.json.Encoder().encode


class _ResponsesRequest(Sampled, kw_only=True):
    input: str | list[Any]
    instructions: str | None = None
    tools: Any = None
    max_output_tokens: int | None = None
    previous_response_id: str | None = None


_decode = msgspec.json.Decoder(_ResponsesRequest, strict=False).decode


class Responses:
    """One message is the whole output."""

    id_prefix = "resp_"

    def read(self, body: bytes) -> Order:
        request = read_body(_decode, body)
        if request.previous_response_id:
            message = "nothing is stored here: send the whole conversation as input"
            raise BadRequestError(message, param="previous_response_id")
        messages: list[Any] = []
        if request.instructions:
            messages.append({"role": "system", "content": request.instructions})
        if isinstance(request.input, str):
            messages.append({"role": "user", "content": request.input})
        else:
            messages += [_as_message(item) for item in request.input]
        if request.stop == "":
            # Refused by the other APIs, and none here (openai/responses/protocol.py).
            request.stop = None
        prompt = render(messages, request.tools)
        return request.order([prompt], request.max_output_tokens, "max_output_tokens")

    def whole(
        self, head: Head, answers: Sequence[Answer], usage: Usage, params: dict[str, Any] | None
    ) -> bytes:
        (answer,) = answers
        return _encode(_response(head, answer, usage) | {"kv_transfer_params": params})

    def telling(self, head: Head, order: Order) -> Telling:
        return ResponsesTelling(head)

    def refused(self, error: EngineFaultError) -> bytes:
        return error.body()

    def broken(self, error: EngineFaultError) -> None:
        """Tell nothing: vLLM's error is none of its own types of events, so that its server breaks
        the connection (openai/responses/serving.py, ``responses_stream_generator``)."""


class ResponsesTelling:
    """Numbers its events, as clients check them."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._number = count()
        self._answer: Answer | None = None
        self._item = {"item_id": _item_id(head), "output_index": 0, "content_index": 0}

    def open(self) -> bytes:
        begun = _response(self._head, None, None)
        return self._event("response.created", response=begun) + self._event(
            "response.in_progress", response=begun
        )

    def begin(self, usage: Usage) -> bytes:
        return b"".join(
            (
                self._event(
                    "response.output_item.added",
                    output_index=0,
                    item=_message(self._head, None),
                ),
                self._event("response.content_part.added", **self._item, part=_part("")),
            )
        )

    def token(self, choice: int, text: str, token_count: int) -> bytes:
        return self._event("response.output_text.delta", **self._item, delta=text, logprobs=[])

    def last(self, choice: int, text: str, answer: Answer) -> bytes:
        self._answer = answer
        return b"".join(
            (
                self.token(choice, text, len(answer.tokens)) if text else b"",
                self._event(
                    "response.output_text.done", **self._item, text=answer.text, logprobs=[]
                ),
                self._event("response.content_part.done", **self._item, part=_part(answer.text)),
                self._event(
                    "response.output_item.done",
                    output_index=0,
                    item=_message(self._head, answer),
                ),
            )
        )

    def end(self, usage: Usage) -> bytes:
        """End as vLLM does, whose last event is the same for an answer that was cut."""
        return self._event(
            "response.completed", response=_response(self._head, self._answer, usage)
        )

    def _event(self, name: str, **fields: Any) -> bytes:
        told = {"type": name, **fields, "sequence_number": next(self._number)}
        return b"event: %b\ndata: %b\n\n" % (name.encode(), _encode(told))


def _as_message(item: Any) -> Any:
    """Return an item of the input as a message: a tool's output has no role of its own."""
    if isinstance(item, dict) and "role" not in item:
        role = "tool" if item.get("type") == "function_call_output" else "assistant"
        return {**item, "role": role, "content": item.get("output", item.get("content"))}
    if isinstance(item, dict):
        # What an answer has beside its text is not in the prompt that it followed.
        return {"role": item["role"], "content": item.get("content")}
    return item


def _response(head: Head, answer: Answer | None, usage: Usage | None) -> dict[str, Any]:
    is_cut = answer is not None and answer.finish_reason == "length"
    status = "in_progress" if answer is None else "incomplete" if is_cut else "completed"
    return {
        "id": head.answer_id,
        "object": "response",
        "created_at": head.created_at,
        "model": head.model,
        "status": status,
        "incomplete_details": {"reason": "max_output_tokens"} if is_cut else None,
        "output": [] if answer is None else [_message(head, answer)],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "temperature": 1.0,
        "top_p": 1.0,
        "usage": None if usage is None else _usage(usage),
    }


def _message(head: Head, answer: Answer | None) -> dict[str, Any]:
    return {
        "id": _item_id(head),
        "type": "message",
        "role": "assistant",
        "status": "in_progress" if answer is None else "completed",
        "content": [] if answer is None else [_part(answer.text)],
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.output_tokens,
    }


def _item_id(head: Head) -> str:
    return "msg_" + head.answer_id.removeprefix(Responses.id_prefix)
