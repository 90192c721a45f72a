"""What requests of one kind are promised."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from twofold_router.access.errors import InvalidAccessError

DEFAULT_CLASS = "default"

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z"
"""Of classes, keys and tenants: they stand in logs, labels and names of Redis' keys."""

OnLate = Literal["serve", "refuse"]

_FIELDS = ("priority", "ttft", "ttft-per-token", "tpot", "late")
_MAX_PRIORITY = 1_000_000
_MAX_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class RequestClass:
    """The priority and the deadline of a request: arrival + ``ttft_slo_seconds`` + prompt tokens
    times ``ttft_slo_seconds_per_token``."""

    name: str
    priority: int = 0
    """Larger is more important, as in an InferenceObjective."""
    ttft_slo_seconds: float = 5.0
    ttft_slo_seconds_per_token: float = 0.0
    """So that long prompts are not the ones always put off."""
    on_late: OnLate = "serve"
    """What becomes of a request that cannot be on time."""
    tpot_slo_seconds: float | None = None
    """Between two tokens of an answer, as a mean over it. It is counted and not planned for."""


def parse_class(text: str) -> RequestClass:
    """Read a class as ``--class`` tells it: a name, and fields that may be left out, such as
    ``interactive:priority=10,ttft=2.0,ttft-per-token=0.0005,tpot=0.05,late=refuse``.

    Raises:
        InvalidAccessError: the message names the class and the field.
    """
    name, _, rest = text.partition(":")
    if not re.match(NAME_PATTERN, name):
        raise InvalidAccessError(
            f"class {name[:100]!r}: a name has letters, digits, '.', '_', '-', at most 63"
        )
    told = _fields_of(name, rest)
    plain = RequestClass(name)
    return RequestClass(
        name,
        _integer(name, told.get("priority"), plain.priority),
        _seconds(name, "ttft", told.get("ttft"), plain.ttft_slo_seconds, above_zero=True),
        _seconds(name, "ttft-per-token", told.get("ttft-per-token"), 0.0, above_zero=False),
        _on_late(name, told.get("late"), plain.on_late),
        _seconds(name, "tpot", told["tpot"], 0.0, above_zero=True) if "tpot" in told else None,
    )


def _fields_of(name: str, rest: str) -> dict[str, str]:
    told: dict[str, str] = {}
    for part in rest.split(",") if rest else ():
        field, equals, value = part.partition("=")
        if not equals or field not in _FIELDS:
            raise _invalid(name, part[:100], f"no field=value of {', '.join(_FIELDS)}")
        if field in told:
            raise _invalid(name, field, "told twice")
        told[field] = value
    return told


def _integer(name: str, text: str | None, default: int) -> int:
    if text is None:
        return default
    if not re.fullmatch(r"[+-]?[0-9]{1,7}", text) or abs(int(text)) > _MAX_PRIORITY:
        raise _invalid(name, "priority", f"must be a whole number up to {_MAX_PRIORITY}")
    return int(text)


def _seconds(name: str, field: str, text: str | None, default: float, *, above_zero: bool) -> float:
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    # Not a number compares false.
    if not 0.0 <= value <= _MAX_SECONDS or (above_zero and value == 0.0):
        least = "more than 0" if above_zero else "0 or more"
        raise _invalid(name, field, f"must be seconds, {least}, at most {_MAX_SECONDS:g}")
    return value


def _on_late(name: str, text: str | None, default: OnLate) -> OnLate:
    match text:
        case None:
            return default
        case "serve" | "refuse":
            return text
    raise _invalid(name, "late", "must be serve or refuse")


def _invalid(name: str, field: str, why: str) -> InvalidAccessError:
    return InvalidAccessError(f"class {name!r}, {field}: {why}")
