"""Conditions: what is true of a resource now, and since when."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from twofold_operator.planning.observed import Manifest
from twofold_operator.resources import Condition, ConditionStatus

MAX_MESSAGE = 1024

_STATUSES: Mapping[bool | None, ConditionStatus] = {True: "True", False: "False", None: "Unknown"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One condition without its times."""

    type: str
    holds: bool | None
    """None: it is not known."""
    reason: str
    message: str


def updated(manifest: Manifest, verdicts: Iterable[Verdict], now: float) -> tuple[Condition, ...]:
    """Return *verdicts* as conditions of *manifest*; the time is kept while a status stays."""
    before = {c["type"]: c for c in (manifest.get("status") or {}).get("conditions") or ()}
    generation = manifest["metadata"].get("generation", 0)
    found = []
    for verdict in verdicts:
        status = _STATUSES[verdict.holds]
        last = before.get(verdict.type, {})
        since = last.get("lastTransitionTime") if last.get("status") == status else None
        found.append(
            Condition(
                type=verdict.type,
                status=status,
                reason=verdict.reason,
                message=verdict.message[:MAX_MESSAGE],
                last_transition_time=since or timestamp(now),
                observed_generation=generation,
            )
        )
    return tuple(found)


def timestamp(now: float) -> str:
    """Return *now*, seconds since 1970, as Kubernetes writes it."""
    return datetime.fromtimestamp(int(now), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(text: str) -> float:
    """Return what :func:`timestamp` made *text* of."""
    return datetime.fromisoformat(text).timestamp()
