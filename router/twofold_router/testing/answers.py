"""What an engine says, in the shapes of vLLM 0.32."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from twofold_cluster.apis import Api

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, whatever its shape."""

    answer_id: str
    created_at: int
    model: str
    texts: tuple[str, ...]
    """One for each token."""
    is_cut_short: bool
    prompt_tokens: int
    cached_tokens: int | None
    """None: the engine was not told to say it."""


def text_of(first: int, end: int) -> str:
    """Return the tokens of an answer from number *first* to before *end*."""
    return "".join(f"a{number} " for number in range(first, end))


def whole(api: Api, answer: Answer, **more: Any) -> bytes:
    """Encode *answer* in one piece, with the fields *more*."""
    text = "".join(answer.texts)
    told: dict[str, Any] = {"id": answer.answer_id, "model": answer.model}
    if api is Api.MESSAGES:
        told |= {"type": "message", "role": "assistant", "content": [_text_block(text)]}
    elif api is Api.RESPONSES:
        message = {"type": "message", "role": "assistant", "content": [_text_block(text)]}
        told |= {"object": "response", "status": "completed", "output": [message]}
    else:
        says = {"text": text}
        if api is Api.CHAT:
            says = {"message": {"role": "assistant", "content": text}}  # type: ignore[dict-item]
        choice = {"index": 0, **says, "finish_reason": _finish_reason(answer)}
        told |= {"created": answer.created_at, "choices": [choice]}
    return msgspec.json.encode({**told, "usage": _usage(api, answer), **more})


def events(api: Api, answer: Answer, *, tells_usage: bool) -> Iterator[bytes]:
    """Encode *answer* as the events of a stream. Usage is to be told by those APIs where a client
    has to ask for it."""
    if api is Api.MESSAGES:
        yield from _messages_events(answer)
    elif api is Api.RESPONSES:
        yield from _responses_events(answer)
    else:
        yield from _choices_events(api, answer)
        if tells_usage:
            yield _data({**_head(api, answer), "choices": [], "usage": _usage(api, answer)})
        yield DONE


def failed_load(api: Api) -> Iterator[bytes]:
    """Tell of a failed transfer as vLLM does in a stream: status 200, the first event an error,
    after those that only say that a response has begun."""
    if api is Api.RESPONSES:
        yield from _prefaces({"object": "response"})
    yield from _error(api, "KV load failure")


def died(api: Api) -> Iterator[bytes]:
    """Tell as vLLM does in a stream that its core has died."""
    return _error(api, "EngineCore encountered an issue.")


def _error(api: Api, message: str) -> Iterator[bytes]:
    if api is Api.MESSAGES:
        yield _event(
            "error", {"type": "error", "error": {"type": "internal_error", "message": message}}
        )
        return
    error = {"message": message, "type": "InternalServerError", "code": 500}
    if api is Api.RESPONSES:
        yield _typed("error", message=message, code="500")
        return
    yield _data({"error": error})
    yield DONE


def _choices_events(api: Api, answer: Answer) -> Iterator[bytes]:
    head = _head(api, answer)

    def event(text: str, finish_reason: str | None, **delta: str) -> bytes:
        says = {"delta": {**delta, "content": text}} if api is Api.CHAT else {"text": text}
        choice = {"index": 0, **says, "logprobs": None, "finish_reason": finish_reason}
        return _data({**head, "choices": [choice]})

    if api is Api.CHAT:
        yield event("", None, role="assistant")
    for number, text in enumerate(answer.texts, 1):
        is_last = number == len(answer.texts)
        yield event(text, _finish_reason(answer) if is_last else None)


def _messages_events(answer: Answer) -> Iterator[bytes]:
    usage = _usage(Api.MESSAGES, answer)
    message = {"id": answer.answer_id, "type": "message", "role": "assistant", "content": []}
    begun = {**message, "usage": {**usage, "output_tokens": 0}}
    yield _typed("message_start", message=begun)
    yield _typed("content_block_start", index=0, content_block=_text_block(""))
    for text in answer.texts:
        yield _typed("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
    yield _typed("content_block_stop", index=0)
    yield _typed("message_delta", delta={"stop_reason": "end_turn"}, usage=usage)
    yield _typed("message_stop")


def _responses_events(answer: Answer) -> Iterator[bytes]:
    told = {"id": answer.answer_id, "object": "response", "status": "in_progress"}
    yield from _prefaces(told)
    for text in answer.texts:
        yield _typed("response.output_text.delta", delta=text)
    usage = _usage(Api.RESPONSES, answer)
    yield _typed("response.completed", response={**told, "status": "completed", "usage": usage})


def _prefaces(told: dict[str, Any]) -> Iterator[bytes]:
    """Tell what vLLM tells before it has computed anything."""
    for name in ("response.created", "response.in_progress"):
        yield _typed(name, response={**told, "usage": None})


def _usage(api: Api, answer: Answer) -> dict[str, Any]:
    prompt, cached, output = answer.prompt_tokens, answer.cached_tokens, len(answer.texts)
    if api is Api.MESSAGES:
        if cached is None:
            return {"input_tokens": prompt, "output_tokens": output}
        read = {"input_tokens": prompt - cached, "cache_read_input_tokens": cached}
        return {**read, "output_tokens": output}
    details = None if cached is None else {"cached_tokens": cached}
    names = ("prompt_tokens", "completion_tokens")
    if api is Api.RESPONSES:
        names = ("input_tokens", "output_tokens")
    counts = dict(zip(names, (prompt, output), strict=True))
    detail_name = names[0] + "_details"
    return {**counts, "total_tokens": prompt + output, detail_name: details}


def _head(api: Api, answer: Answer) -> dict[str, Any]:
    kind = "chat.completion.chunk" if api is Api.CHAT else "text_completion"
    return {
        "id": answer.answer_id,
        "object": kind,
        "created": answer.created_at,
        "model": answer.model,
    }


def _finish_reason(answer: Answer) -> str:
    return "length" if answer.is_cut_short else "stop"


def _text_block(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def _typed(name: str, **fields: Any) -> bytes:
    return _event(name, {"type": name, **fields})


def _event(name: str, data: object) -> bytes:
    return b"event: " + name.encode() + b"\n" + _data(data)


def _data(data: object) -> bytes:
    return b"data: " + msgspec.json.encode(data) + b"\n\n"
