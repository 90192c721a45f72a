"""A client's request: decoded once, and checked as far as the router must understand it."""

import re
import uuid
from dataclasses import dataclass

import msgspec

from twofold_cluster.errors import Fault, RequestError
from twofold_cluster.legs import Api, Body

_SANE_REQUEST_ID = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class Call:
    """What a client asks for."""

    request_id: str
    api: Api
    body: Body
    model: str
    size_bytes: int
    arrived_at: float
    """Seconds on the dispatcher's clock."""


def parse_call(request_id: str, api: Api, raw: bytes, arrived_at: float) -> Call:
    """Decode *raw*.

    Raises:
        RequestError: it is no JSON, no object, or names no model.
    """
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(Fault.INVALID_JSON, f"the body is not valid JSON: {error}") from error
    if not isinstance(body, dict):
        raise RequestError(Fault.INVALID_REQUEST, "the body must be a JSON object")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise RequestError(Fault.INVALID_REQUEST, "model must be a text", param="model")
    return Call(request_id, api, body, model, len(raw), arrived_at)


def request_id_from(header: str | None) -> str:
    """Take the client's own id if it is short and visible ASCII, else make one."""
    if header is not None and _SANE_REQUEST_ID.fullmatch(header):
        return header
    return uuid.uuid4().hex
