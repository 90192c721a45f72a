"""The end of a stream that cannot change its status any more: an error that its client reads."""

import msgspec

from twofold_cluster.apis import Api, PassedOnApi
from twofold_cluster.errors import RequestError, error_events
from twofold_router.gateway.anthropic import error_type

_LAST_NUMBER = 2**31 - 1
"""More than that of any event before; those of a stream are not counted."""


def end_of_stream(api: Api | PassedOnApi, error: RequestError) -> bytes:
    """Return the events that tell of *error* and end a stream of *api*."""
    if api is Api.MESSAGES:
        inner = {"type": error_type(error.fault.status), "message": error.message}
        return _event("error", {"type": "error", "error": inner})
    if api is Api.RESPONSES:
        fields = {"code": error.fault.code, "message": error.message, "param": None}
        # OpenAI's event has what is told at its top; its clients raise what they find in "error".
        told = {"type": "error", **fields, "sequence_number": _LAST_NUMBER}
        return _event("error", {**told, "error": {"type": error.fault.type, **fields}})
    return error_events(error.body())


def _event(name: str, data: object) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + msgspec.json.encode(data) + b"\n\n"
