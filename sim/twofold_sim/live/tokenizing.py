"""``/tokenize``, ``/detokenize`` and ``/v1/messages/count_tokens``."""

from typing import Any

import msgspec

from twofold_sim.live.bodies import read_body
from twofold_sim.live.engine import SimEngine
from twofold_sim.live.errors import InvalidBodyError
from twofold_sim.live.messages import Message, Thinking, prompt_of
from twofold_sim.live.rendering import render
from twofold_sim.live.tokens import bytes_of, detokenize, tokenize


class _Tokenize(msgspec.Struct):
    model: str | None = None
    prompt: str | None = None
    messages: list[Any] | None = None
    tools: Any = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    return_token_strs: bool | None = False


class _Detokenize(msgspec.Struct):
    tokens: list[int]
    model: str | None = None


class _CountTokens(msgspec.Struct):
    model: str
    messages: list[Message]
    system: str | list[Any] | None = None
    tools: Any = None
    thinking: Thinking | None = None


_decode_tokenize = msgspec.json.Decoder(_Tokenize, strict=False).decode
_decode_detokenize = msgspec.json.Decoder(_Detokenize, strict=False).decode
_decode_count_tokens = msgspec.json.Decoder(_CountTokens, strict=False).decode


def answer_tokenize(engine: SimEngine, body: bytes) -> dict[str, Any]:
    """Return what vLLM answers.

    Raises:
        BadRequestError: it is no such request.
        UnknownModelError: *engine* serves no model of its name.
    """
    request = read_body(_decode_tokenize, body)
    engine.adapter(request.model)
    if request.messages is None:
        if request.prompt is None:
            raise InvalidBodyError("there is neither prompt nor messages", param="body.prompt")
        tokens = tokenize(request.prompt)
    else:
        tokens = render(
            request.messages,
            request.tools,
            begins_answer=request.add_generation_prompt,
            goes_on=request.continue_final_message,
        )
    strings = None
    if request.return_token_strs:
        strings = [bytes_of(token).decode(errors="replace") for token in tokens]
    return {
        "count": len(tokens),
        "max_model_len": engine.settings.max_model_tokens,
        "tokens": list(tokens),
        "token_strs": strings,
    }


def answer_detokenize(engine: SimEngine, body: bytes) -> dict[str, Any]:
    """Return what vLLM answers.

    Raises:
        BadRequestError: it is no such request.
        UnknownModelError: *engine* serves no model of its name.
    """
    request = read_body(_decode_detokenize, body)
    engine.adapter(request.model)
    return {"prompt": detokenize(request.tokens)}


def answer_count_tokens(engine: SimEngine, body: bytes) -> dict[str, Any]:
    """Return what vLLM answers.

    Raises:
        BadRequestError: it is no such request.
        UnknownModelError: *engine* serves no model of its name.
    """
    request = read_body(_decode_count_tokens, body)
    engine.adapter(request.model)
    count = len(prompt_of(request.system, request.messages, request.tools))
    return {"input_tokens": count, "context_management": {"original_input_tokens": count}}
