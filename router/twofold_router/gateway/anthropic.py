"""Errors as clients of Anthropic's Messages API read them.

The shape is ``{"type": "error", "error": {"type", "message"}}``, the types are those of "Errors" in
Anthropic's API reference. What OpenAI's shape says beside that (``code``, ``param``) is kept.
"""

from collections.abc import Mapping

import msgspec

_TYPE_BY_STATUS: Mapping[int, str] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_type(status: int) -> str:
    """Return what an error answer of *status*, 400 to 599, is called."""
    other = "invalid_request_error" if status < 500 else "api_error"
    return _TYPE_BY_STATUS.get(status, other)


def anthropic_error(status: int, body: bytes) -> bytes:
    """Make of *body*, an error in OpenAI's shape, one in Anthropic's."""
    error = msgspec.json.decode(body)["error"]
    return msgspec.json.encode({"type": "error", "error": {**error, "type": error_type(status)}})
