"""A chat as one row of tokens, so that a later turn's begins with all of an earlier one's."""

import re
from array import array
from collections.abc import Sequence
from hashlib import shake_128
from typing import Any

import msgspec
from xxhash import xxh3_128_digest

from twofold_sim.live.errors import BadRequestError
from twofold_sim.live.tokens import BEGIN, END, OTHER, SAYS, Tokens, tokenize

_TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal", "thinking"})
_SAID = frozenset({"role", "content"})
_CONFLICT = "Cannot set both `continue_final_message` and `add_generation_prompt` to True."

MEDIA_TOKENS = 256
"""Of one image, sound or film, whatever its size: about what vision models make of an image."""

_MEDIA = re.compile(r'"(?:data:[^",]{0,200};base64,[^"]*|[A-Za-z0-9+/=_-]{1024,})"')
"""A data URL, or base64 that would be more tokens as a text."""

_in_order = msgspec.json.Encoder(order="deterministic").encode


def render(
    messages: Sequence[Any], tools: Any = None, *, begins_answer: bool = True, goes_on: bool = False
) -> Tokens:
    """Return the tokens of *messages*.

    *begins_answer*: they end where the assistant's next message begins. *goes_on*: they end in
    the middle of the last message.

    Raises:
        BadRequestError: both, or there is nothing to render.
    """
    if goes_on and begins_answer:
        raise BadRequestError(_CONFLICT)
    if not messages:
        raise BadRequestError("messages must have at least one message", param="messages")
    tokens: Tokens = array("Q")
    if tools:
        _add_head("tools", {}, tokens)
        _add_json(_in_order(tools).decode(), tokens)
        tokens.append(END)
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise BadRequestError("a message must be an object with a role", param="messages")
        others = {
            name: value
            for name, value in message.items()
            if name not in _SAID and value is not None and value != []
        }
        _add_message(message["role"], others, message.get("content"), tokens)
    if goes_on:
        tokens.pop()
    elif begins_answer:
        _add_head("assistant", {}, tokens)
    return tokens


def _add_message(role: str, others: dict[str, Any], content: Any, tokens: Tokens) -> None:
    _add_head(role, others, tokens)
    _add_content(content, tokens)
    tokens.append(END)


def _add_head(role: str, others: dict[str, Any], tokens: Tokens) -> None:
    tokens.append(BEGIN)
    tokens += tokenize(role)
    if others:
        _add_json(" " + _in_order(others).decode(), tokens)
    tokens.append(SAYS)


def _add_content(content: Any, tokens: Tokens) -> None:
    if isinstance(content, str):
        tokens += tokenize(content)
    elif isinstance(content, list):
        for part in content:
            _add_part(part, tokens)
    elif content is not None:
        raise BadRequestError("content must be a text or a list of parts", param="messages")


def _add_part(part: Any, tokens: Tokens) -> None:
    if isinstance(part, str):
        tokens += tokenize(part)
        return
    kind = part.get("type") if isinstance(part, dict) else None
    text = part.get("text", part.get(kind)) if kind in _TEXT_PARTS else None
    if isinstance(text, str):
        tokens += tokenize(text)
    else:
        tokens.append(OTHER)
        _add_json(_in_order(part).decode(), tokens)


def _add_json(encoded: str, tokens: Tokens) -> None:
    """Add what is no text, with a digest in the place of each image, sound or film in it."""
    end = 0
    for media in _MEDIA.finditer(encoded):
        tokens += tokenize(encoded[end : media.start()])
        digest = shake_128(xxh3_128_digest(media[0].encode())).digest(4 * MEDIA_TOKENS)
        tokens += array("Q", memoryview(digest).cast("I"))
        end = media.end()
    tokens += tokenize(encoded[end:])
