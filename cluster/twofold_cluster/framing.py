"""The frames of canonical bytes.

Each piece is announced by 0xFF, which occurs in no UTF-8, and a byte that says what it is: so no
text can imitate a border. There are no lengths, so that a text that goes on changes nothing before
its end; and inside a message its text comes as late as it can.
"""

from typing import Any

import msgspec
from xxhash import xxh3_128_hexdigest

_SETTING = b"\xffs"
_TOOL = b"\xfft"
_MESSAGE = b"\xffm"
_FIELD = b"\xfff"
_DETAILS = b"\xffd"
_TEXT = b'\xff"'
_JSON = b"\xff="
_UNSEEN = b"\xff#"
_STRANGE = b"\xff!"
_END = b"\xffe"
_CALL = b"\xffc"
_PROMPT = b"\xffp"
_TOKENS = b"\xff,"

# Where a part that is more than its text has it, or has parts of its own.
_BODY_BY_TYPE = {"refusal": "refusal", "thinking": "thinking", "tool_result": "content"}
_NONE_INSIDE: dict[str, str] = {}

# One thing in three dialects.
_PLAIN_TEXT = frozenset({"text", "input_text", "output_text"})

_MEDIA = frozenset(
    {
        "audio_embeds",
        "audio_url",
        "document",
        "file",
        "image",
        "image_embeds",
        "image_url",
        "input_audio",
        "input_file",
        "input_image",
        "video",
        "video_url",
    }
)

# Anthropic's clients move this marker from turn to turn; vLLM does not read it.
_MARKER = "cache_control"

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_HEADS = {role: _MESSAGE + role.encode() for role in _ROLES}

_in_order = msgspec.json.Encoder(order="deterministic").encode


def add_setting(name: str, value: Any, pieces: list[bytes]) -> None:
    if value is not None:
        pieces += (_SETTING, name.encode(), _JSON, _in_order(value))


def add_tool(tool: Any, pieces: list[bytes]) -> None:
    if isinstance(tool, dict) and _MARKER in tool:
        tool = {name: value for name, value in tool.items() if name != _MARKER}
    pieces += (_TOOL, _in_order(tool))


def add_prompt(prompt: Any, pieces: list[bytes]) -> None:
    """Add a prompt that is a text, a list of token ids, or such a list as text, without brackets.

    Each id ends with a comma, so that none is the beginning of another.
    """
    if isinstance(prompt, str):
        pieces += (_PROMPT, _TEXT, prompt.encode())
    elif isinstance(prompt, bytes):
        pieces += (_PROMPT, _TOKENS, prompt, b",")
    elif isinstance(prompt, list) and all(type(token_id) is int for token_id in prompt):
        pieces += (_PROMPT, _TOKENS, _in_order(prompt)[1:-1], b",")
    else:
        pieces += (_PROMPT, _JSON, _in_order(prompt))


def add_unseen(digest: str, pieces: list[bytes]) -> None:
    """Add what is no text by its digest: its length says nothing of the tokens it becomes."""
    pieces += (_UNSEEN, digest.encode())


def add_message(message: Any, pieces: list[bytes]) -> None:
    """Add a message: role, its other fields by name, its text or parts, its tool calls."""
    if type(message) is not dict:
        pieces += (_STRANGE, _in_order(message))
        return
    role = message.get("role")
    content = message.get("content")
    if len(message) == 2 and type(role) is str and type(content) is str:  # nearly all are so
        pieces += (_HEADS.get(role) or _MESSAGE + role.encode(), _TEXT, content.encode())
        return
    _add_head(role, pieces)
    for name in sorted(message.keys() - _PLACED):
        _add_field(name, message[name], pieces)
    if "output" in message:
        _add_content(message["output"], pieces)
        pieces.append(_END)
    _add_content(content, pieces)
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else [calls]:
        if call is not None:
            pieces += (_CALL, _in_order(call))


_PLACED = frozenset({"role", "content", "output", "tool_calls", _MARKER})


def _add_head(role: Any, pieces: list[bytes]) -> None:
    if isinstance(role, str):
        pieces.append(_HEADS.get(role) or _MESSAGE + role.encode())
    else:
        pieces.append(_MESSAGE)
        _add_field("role", role, pieces)


def _add_field(name: str, value: Any, pieces: list[bytes]) -> None:
    """Add a field, if it says anything: some clients send back what they were sent, nulls too."""
    if isinstance(value, str):
        # Responses calls a message what the others do not call at all.
        if name != "type" or value != "message":
            pieces += (_FIELD, name.encode(), _TEXT, value.encode())
    elif value is not None and value != []:
        pieces += (_FIELD, name.encode(), _JSON, _in_order(value))


def _add_content(content: Any, pieces: list[bytes], bodies: dict[str, str] = _BODY_BY_TYPE) -> None:
    if isinstance(content, str):
        pieces += (_TEXT, content.encode())
    elif isinstance(content, list):
        for part in content:
            _add_part(part, pieces, bodies)
    elif content is not None:
        pieces += (_JSON, _in_order(content))


def _add_part(part: Any, pieces: list[bytes], bodies: dict[str, str]) -> None:
    """Add a part of a content; one of plain text as if it were the content."""
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, str):
        pieces += (_TEXT, part.encode())
    elif not isinstance(kind, str):
        pieces += (_STRANGE, _in_order(part))
    elif kind in _MEDIA:
        add_unseen(xxh3_128_hexdigest(_in_order(_telling(part, _MARKER))), pieces)
    elif kind in _PLAIN_TEXT and isinstance(part.get("text"), str):
        if len(part) > 2 and (details := _telling(part, "type", "text", _MARKER)):
            pieces += (_DETAILS, _in_order(details))
        pieces += (_TEXT, part["text"].encode())
    else:
        body = bodies.get(kind, "")
        pieces += (_DETAILS, _in_order(_telling(part, body, _MARKER)))
        # A result inside of a result is no API's: it is taken as it is, however deep it goes.
        _add_content(part.get(body), pieces, _NONE_INSIDE)
        pieces.append(_END)


def _telling(part: dict[str, Any], *without: str) -> dict[str, Any]:
    """Return what *part* says: nulls and empty lists are the same as nothing."""
    return {
        name: value
        for name, value in part.items()
        if name not in without and value is not None and value != []
    }
