"""The canonical bytes of a prompt: equal for equal prompts, and a later turn's extend an earlier's.

Order: what changes the rendering as a whole, then the tools, then the messages, as the templates
have it. The bytes need not be what the engine's template renders; they have to differ where that
does, and to be about as long. A shape that no API knows is taken as JSON: the engine refuses it.
"""

from typing import Any

import msgspec
from xxhash import xxh3_128_hexdigest

from twofold_cluster.apis import Api
from twofold_cluster.fields import Fields, decode_field
from twofold_cluster.framing import (
    add_message,
    add_prompt,
    add_setting,
    add_tool,
    add_unseen,
)

_SETTINGS = frozenset(
    {
        "add_special_tokens",
        "chat_template",
        "chat_template_kwargs",
        "documents",
        "media_io_kwargs",
        "mm_processor_kwargs",
        "output_config",
        "previous_input_messages",
        "previous_response_id",
        "reasoning",
        "reasoning_effort",
        "truncate_prompt_tokens",
        "truncation_side",
    }
)

# Claude Code begins its system prompt with such a line, with a number that changes at every turn.
# vLLM leaves it out of the prompt (entrypoints/anthropic/serving.py, _convert_system_message).
_BILLING = "x-anthropic-billing-header"

_WHITE_SPACE = b" \t\r\n"
_OF_TOKEN_IDS = b"[,]0123456789"


def canonical_bytes(api: Api, fields: Fields) -> bytes:
    """Return the canonical bytes of the prompt in *fields*.

    Raises:
        RequestError: a field of the prompt is not valid JSON.
        RecursionError: it is nested too deep.
    """
    pieces: list[bytes] = []
    for name in sorted(_SETTINGS & fields.keys()):
        add_setting(name, decode_field(fields, name), pieces)
    if "tools" in fields:
        for tool in _listed(decode_field(fields, "tools")):
            add_tool(tool, pieces)
    if api is Api.CHAT:
        _add_messages(decode_field(fields, "messages"), pieces)
    elif api is Api.COMPLETIONS:
        _add_completion(fields, pieces)
    elif api is Api.RESPONSES:
        _add_response(fields, pieces)
    else:
        _add_anthropic(fields, pieces)
    return b"".join(pieces)


def _add_messages(messages: Any, pieces: list[bytes]) -> None:
    for message in _listed(messages):
        add_message(message, pieces)


def _add_completion(fields: Fields, pieces: list[bytes]) -> None:
    if "prompt_embeds" in fields:
        add_unseen(xxh3_128_hexdigest(fields["prompt_embeds"]), pieces)
    if "prompt" not in fields:
        return
    if (token_ids := _token_ids(fields["prompt"])) is not None:
        add_prompt(token_ids, pieces)
        return
    prompt = decode_field(fields, "prompt")
    several = isinstance(prompt, list) and bool(prompt) and not isinstance(prompt[0], int)
    for one in prompt if several else [prompt]:
        add_prompt(one, pieces)


def _token_ids(prompt: msgspec.Raw) -> bytes | None:
    """Return what stands between the brackets of a list of token ids, without white space.

    To decode it and encode it again would take longer than all the rest of a key.
    """
    if bytes(memoryview(prompt)[:1]) != b"[":
        return None
    digits = bytes(prompt).translate(None, _WHITE_SPACE)
    if not digits[1:2].isdigit() or digits.translate(None, _OF_TOKEN_IDS):
        return None
    return digits[1:-1]


def _add_response(fields: Fields, pieces: list[bytes]) -> None:
    _add_system(decode_field(fields, "instructions"), pieces)
    items = decode_field(fields, "input")
    if isinstance(items, str):
        items = {"role": "user", "content": items}
    _add_messages(items, pieces)


def _add_anthropic(fields: Fields, pieces: list[bytes]) -> None:
    if "thinking" in fields:
        thinking = decode_field(fields, "thinking")
        if isinstance(thinking, dict) and thinking.get("type") == "disabled":
            # The other ways to think leave the prompt as it is.
            add_setting("thinking", "disabled", pieces)
    _add_system(_without_billing(decode_field(fields, "system")), pieces)
    for message in _listed(decode_field(fields, "messages")):
        if isinstance(message, dict) and message.get("role") == "system":
            content = message.get("content")
            parts = [content] if isinstance(content, str) else content
            message = {**message, "content": _without_billing(parts)}
        add_message(message, pieces)


def _add_system(content: Any, pieces: list[bytes]) -> None:
    if content:
        add_message({"role": "system", "content": content}, pieces)


def _without_billing(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    return [part for part in content if not _is_billing(part)]


def _is_billing(part: Any) -> bool:
    text = part.get("text") if isinstance(part, dict) else part
    return isinstance(text, str) and text.startswith(_BILLING)


def _listed(value: Any) -> list[Any]:
    """A value that should have been a list is one of itself; a missing one is of nothing."""
    if isinstance(value, list):
        return value
    return [] if value is None else [value]
