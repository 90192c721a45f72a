"""The table of errors: what an OpenAI client is told, by fault.

The shape is OpenAI's: ``{"error": {"message", "type", "param", "code"}}``, ``code`` a string. An
engine's own errors are put into this shape once, never wrapped in another.
"""

import enum
from dataclasses import dataclass
from typing import Any

import msgspec


class TwofoldError(Exception):
    """The root of all errors that Twofold raises on purpose."""


@dataclass(frozen=True, slots=True)
class _Row:
    status: int
    type: str
    code: str


class Fault(enum.Enum):
    """All that can be wrong with a request, each with its status, type and code."""

    INVALID_REQUEST = _Row(400, "invalid_request_error", "invalid_request")
    INVALID_JSON = _Row(400, "invalid_request_error", "invalid_json")
    CONTEXT_TOO_LONG = _Row(400, "invalid_request_error", "context_length_exceeded")
    INVALID_API_KEY = _Row(401, "authentication_error", "invalid_api_key")
    FORBIDDEN = _Row(403, "permission_error", "permission_denied")
    UNKNOWN_MODEL = _Row(404, "not_found_error", "model_not_found")
    UNKNOWN_PATH = _Row(404, "not_found_error", "not_found")
    WRONG_METHOD = _Row(405, "invalid_request_error", "method_not_allowed")
    BODY_TOO_LARGE = _Row(413, "invalid_request_error", "request_too_large")
    WRONG_CONTENT_TYPE = _Row(415, "invalid_request_error", "unsupported_media_type")
    QUEUE_FULL = _Row(429, "rate_limit_error", "rate_limit_exceeded")
    PREFILL_BUSY = _Row(429, "rate_limit_error", "prefill_busy")
    DECODE_BUSY = _Row(429, "rate_limit_error", "decode_busy")
    INTERNAL = _Row(500, "server_error", "internal_error")
    ENGINE_FAILED = _Row(502, "server_error", "engine_failed")
    TRANSFER_FAILED = _Row(502, "server_error", "transfer_failed")
    NO_WORKER = _Row(503, "service_unavailable", "no_worker")
    OVERLOADED = _Row(503, "service_unavailable", "overloaded")
    DRAINING = _Row(503, "service_unavailable", "draining")
    DEADLINE_EXCEEDED = _Row(504, "timeout", "deadline_exceeded")

    @property
    def status(self) -> int:
        return self.value.status

    @property
    def type(self) -> str:
        return self.value.type

    @property
    def code(self) -> str:
        return self.value.code


class RequestError(TwofoldError):
    """A request that is answered with a fault instead of a result."""

    def __init__(
        self,
        fault: Fault,
        message: str,
        *,
        param: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(message)
        self.fault = fault
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds

    def body(self) -> bytes:
        return error_body(self.fault.type, self.fault.code, self.message, self.param)


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises of a body that is no JSON, no UTF-8, or nested without end."""


def error_body(error_type: str, code: str, message: str, param: str | None = None) -> bytes:
    """Encode one error as OpenAI does."""
    return msgspec.json.encode(
        {"error": {"message": message, "type": error_type, "param": param, "code": code}}
    )


def error_events(body: bytes) -> bytes:
    """Make *body* the end of a stream of server-sent events that can no longer change status."""
    return b"data: " + body + b"\n\ndata: [DONE]\n\n"


def translate_engine_error(status: int, body: bytes) -> bytes:
    """Put an engine's error answer of *status* into OpenAI's shape, its message kept.

    vLLM sends ``code`` as an integer and its own names as ``type``; some errors of its web
    framework come as ``{"detail": …}`` or as plain text.
    """
    message, param = _message_of(body)
    if status == 404 and message == "Not Found":
        message = _NOT_OFFERED
    fault = _fault_of(status, message, param)
    return error_body(fault.type, fault.code, message or f"the engine answered {status}", param)


def engine_error_code(body: bytes) -> str | None:
    """Return the ``code`` of an error in OpenAI's shape, None for anything else."""
    try:
        error = msgspec.json.decode(body)["error"]
        code = error["code"]
    except (*_UNREADABLE, KeyError, TypeError):
        return None
    return code if isinstance(code, str) else None


def engine_error_message(body: bytes) -> str:
    """Return what an engine's error says, or its beginning if that cannot be found."""
    return _message_of(body)[0]


def engine_error_status(body: bytes) -> int | None:
    """Return the HTTP status that an engine's error has as its ``code``, None for any other."""
    try:
        status = msgspec.json.decode(body)["error"]["code"]
    except (*_UNREADABLE, KeyError, TypeError):
        return None
    return status if isinstance(status, int) and 400 <= status < 600 else None


def _message_of(body: bytes) -> tuple[str, str | None]:
    try:
        answer: Any = msgspec.json.decode(body)
    except _UNREADABLE:
        return body[:1000].decode(errors="replace").strip(), None
    if not isinstance(answer, dict):
        return "", None
    error = answer.get("error", answer)
    if isinstance(error, str):
        return error, None
    if not isinstance(error, dict):
        return "", None
    message = error.get("message") or error.get("detail") or ""
    param = error.get("param")
    return str(message), param if isinstance(param, str) else None


def _fault_of(status: int, message: str, param: str | None) -> Fault:
    if status == 400 and any(phrase in message for phrase in _CONTEXT_PHRASES):
        return Fault.CONTEXT_TOO_LONG
    if status == 404 and (message == _NOT_OFFERED or param not in (None, "model")):
        return Fault.UNKNOWN_PATH
    return _FAULT_BY_STATUS.get(
        status, Fault.INVALID_REQUEST if 400 <= status < 500 else Fault.ENGINE_FAILED
    )


_CONTEXT_PHRASES = (
    "context length",  # renderers/params.py, entrypoints/serve/utils/api_utils.py
    "maximum model length",  # v1/engine/input_processor.py
    "exceeds the max_model_len",  # entrypoints/openai/responses/serving.py
    # renderers/params.py, of output tokens; of a truncation there is a space before the "=".
    "cannot be greater than max_model_len=",
)
"""What vLLM 0.32 says of requests that its model's context does not hold."""

_NOT_OFFERED = "this model does not offer that API"
"""Told instead of the "Not Found" of vLLM's web framework, which knows no model at that path."""

_FAULT_BY_STATUS = {
    404: Fault.UNKNOWN_MODEL,
    405: Fault.WRONG_METHOD,
    413: Fault.BODY_TOO_LARGE,
    415: Fault.WRONG_CONTENT_TYPE,
    429: Fault.QUEUE_FULL,
    503: Fault.NO_WORKER,
    504: Fault.DEADLINE_EXCEEDED,
}
