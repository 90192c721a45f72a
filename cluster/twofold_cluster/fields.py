"""A client's request, decoded once and no deeper than is needed.

What nobody here looks at stays as the bytes that the client sent. Where a name stands twice in
the object, the last one counts, and only that one is sent on: all that read the request, here and
in the engines, see the same.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from twofold_cluster.errors import Fault, RequestError

Fields = Mapping[str, msgspec.Raw]
"""The fields of a JSON object, each as its JSON; a slice of the body, without white space around
it."""

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_value = msgspec.json.Decoder().decode


def decode_fields(body: bytes) -> Fields:
    """Split *body* into its fields; they hold it in memory, and copy nothing.

    The UTF-8 inside of a field's texts is looked at only when the field is decoded.

    Raises:
        RequestError: it is no JSON (NaN, half a surrogate pair, endless nesting), or no object.
    """
    try:
        return _decode_fields(body)
    except msgspec.ValidationError as error:
        raise RequestError(Fault.INVALID_REQUEST, "the body must be a JSON object") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(Fault.INVALID_JSON, f"the body is not valid JSON: {error}") from error


def decode_field(fields: Fields, name: str) -> Any:
    """Decode the field *name* of *fields*; None when it is missing.

    Raises:
        RequestError: it is not UTF-8, nested too deep, or holds a number beyond all bounds.
    """
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return _decode_value(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"{name} is not valid JSON: {error}"
        raise RequestError(Fault.INVALID_JSON, message, param=name) from error
