"""A client's request: decoded once, and checked as far as the router must understand it."""

import itertools
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from twofold_cluster.apis import Api, PassedOnApi
from twofold_cluster.errors import Fault, RequestError
from twofold_cluster.fields import Fields, decode_field, decode_fields
from twofold_router.access import Caller, Terms
from twofold_router.http import Request

_SANE_REQUEST_ID = re.compile(rb"[!-~]{1,128}")

_JSON = b"application/json"

# Names of what the request is part of, for who traces it.
_PASSED_HEADERS = (b"traceparent", b"tracestate", b"baggage")

# A process has its own prefix, so that ids differ without asking the kernel for each.
_ID_PREFIX = secrets.token_hex(12)
_ID_SERIAL = itertools.count(secrets.randbits(24))

MAX_OUTPUT_TOKENS = 2**32
"""Far above any model's. A number without a bound is no number for who computes with it."""

_CACHING: frozenset[Api | PassedOnApi] = frozenset([*Api, PassedOnApi.EMBEDDINGS])
"""Those whose prompts the engines look up in their prefix caches."""

_NEEDS_STORE = {
    "background": "background is not offered",
    "previous_response_id": "no response can be gone on from; send its items in input",
}

_OUTPUT_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


@dataclass(slots=True)
class Call:
    """What a client asks for."""

    request_id: str
    api: Api | PassedOnApi
    fields: Fields
    model: str
    caller: Caller
    terms: Terms
    headers: list[tuple[bytes, bytes]]
    """Those that the engines are sent."""
    arrived_at: float
    """Seconds on the desk's clock."""

    @property
    def asks_for_stream(self) -> bool:
        return bytes(self.fields.get("stream", b"")) == b"true"

    @property
    def two_legged_api(self) -> Api:
        assert isinstance(self.api, Api), self.api
        return self.api


def parse_call(
    request: Request,
    request_id: str,
    api: Api | PassedOnApi,
    caller: Caller,
    terms: Terms,
    arrived_at: float,
    only_model: Callable[[Caller], str],
) -> Call:
    """Decode the body of *request*. Where it names no model, *only_model* is asked for the
    caller's.

    Raises:
        RequestError: it is no JSON, no object, names no model, or needs what a response has left.
    """
    headers = request.headers
    _require_json(headers)
    fields = decode_fields(request.body)
    model = decode_field(fields, "model")
    if model in (None, ""):
        model = only_model(caller)
        fields = {**fields, "model": msgspec.Raw(msgspec.json.encode(model))}
    if not isinstance(model, str):
        raise RequestError(Fault.INVALID_REQUEST, "model must be a text", param="model")
    caller.require_model(model)
    if api is Api.RESPONSES:
        _require_nothing_stored(fields)
    if caller.salt is not None and api in _CACHING:
        own = decode_field(fields, "cache_salt")
        salt = caller.cache_salt(own if isinstance(own, str) else None)
        fields = {**fields, "cache_salt": msgspec.Raw(msgspec.json.encode(salt))}
    sent = [(b"content-type", _JSON), (b"x-request-id", request_id.encode())]
    sent += [(name, headers[name]) for name in _PASSED_HEADERS if name in headers]
    return Call(request_id, api, fields, model, caller, terms, sent, arrived_at)


def max_output_tokens(fields: Fields) -> int | None:
    """Return the bound that the client has set on its answer, if it is a sensible one; at most
    ``MAX_OUTPUT_TOKENS``. Whether it is allowed is the engine's to say."""
    for name in _OUTPUT_LIMITS:
        if name in fields:
            value = decode_field(fields, name)
            if isinstance(value, int) and value > 0:
                return min(value, MAX_OUTPUT_TOKENS)
    return None


def request_id_from(header: bytes | None) -> str:
    """Take the client's own id if it is short and visible ASCII, else make one."""
    if header is not None and _SANE_REQUEST_ID.fullmatch(header):
        return header.decode()
    return f"{_ID_PREFIX}{next(_ID_SERIAL):08x}"


def _require_nothing_stored(fields: Fields) -> None:
    """Check that a response can be made from *fields* alone: each may be another engine's. vLLM
    refuses the same fields unless it stores responses, which is off by default
    (openai/responses/serving.py, ``_validate_create_responses_input``)."""
    for name, why in _NEEDS_STORE.items():
        if decode_field(fields, name) not in (None, False):
            raise RequestError(
                Fault.INVALID_REQUEST, f"{why}: responses are not stored", param=name
            )


def _require_json(headers: Mapping[bytes, bytes]) -> None:
    content_type = headers.get(b"content-type", b"")
    if content_type != _JSON and content_type.partition(b";")[0].strip().lower() != _JSON:
        told = content_type[:100].decode("latin-1")
        message = f"Content-Type must be application/json, and is {told or 'missing'}"
        raise RequestError(Fault.WRONG_CONTENT_TYPE, message)
    if headers.get(b"content-encoding", b"identity") != b"identity":
        raise RequestError(Fault.WRONG_CONTENT_TYPE, "the body must not be compressed")
