"""Quantiles of what was observed."""

import math
from collections.abc import Iterable, Sequence

import msgspec

CURVE_POINTS = 101


class Quantiles(msgspec.Struct, frozen=True):
    """Of one figure over the requests that have it, in its unit; None if there are none."""

    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p99: float | None = None


def quantile(ordered: Sequence[float], share: float) -> float | None:
    """Return the smallest of *ordered* that at least *share* of them do not exceed.

    An observed value and not an interpolation, so that a p99 is a time that somebody had.
    """
    if not ordered:
        return None
    return ordered[max(1, math.ceil(share * len(ordered))) - 1]


def quantiles(values: Iterable[float]) -> Quantiles:
    ordered = sorted(values)
    if not ordered:
        return Quantiles()
    return Quantiles(
        mean=math.fsum(ordered) / len(ordered),
        p50=quantile(ordered, 0.5),
        p90=quantile(ordered, 0.9),
        p99=quantile(ordered, 0.99),
    )


def curve(values: Iterable[float]) -> tuple[float, ...]:
    """Return the quantiles at 0, 1 % and so on to 100 %; nothing of nothing."""
    ordered = sorted(values)
    shares = (number / (CURVE_POINTS - 1) for number in range(CURVE_POINTS))
    found = (quantile(ordered, share) for share in shares)
    return tuple(value for value in found if value is not None)
