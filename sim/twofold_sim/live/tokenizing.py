"""``/tokenize`` and ``/detokenize``."""

from typing import Any

import msgspec

from twofold_sim.live.ordering import as_bad_request
from twofold_sim.live.rendering import render
from twofold_sim.live.tokens import bytes_of, detokenize, tokenize


class _Tokenize(msgspec.Struct):
    prompt: str | None = None
    messages: list[Any] | None = None
    tools: Any = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    return_token_strs: bool | None = False


class _Detokenize(msgspec.Struct):
    tokens: list[int]


_decode_tokenize = msgspec.json.Decoder(_Tokenize, strict=False).decode
_decode_detokenize = msgspec.json.Decoder(_Detokenize, strict=False).decode


def answer_tokenize(body: bytes, max_model_tokens: int) -> dict[str, Any]:
    """Return what vLLM answers.

    Raises:
        BadRequestError: it is no such request.
    """
    try:
        request = _decode_tokenize(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise as_bad_request(error) from error
    if request.messages is None:
        tokens = tokenize(request.prompt or "")
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
        "max_model_len": max_model_tokens,
        "tokens": list(tokens),
        "token_strs": strings,
    }


def answer_detokenize(body: bytes) -> dict[str, Any]:
    """Return what vLLM answers.

    Raises:
        BadRequestError: it is no such request.
    """
    try:
        request = _decode_detokenize(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise as_bad_request(error) from error
    return {"prompt": detokenize(request.tokens)}
