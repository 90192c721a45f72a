"""Numbers out of repeated measurements: quantiles, spreads over rounds, ratios."""

import math
from collections.abc import Sequence
from statistics import median

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """What the rounds gave for one figure."""

    median: float
    lowest: float
    highest: float


def spread(values: Sequence[float]) -> Spread:
    """Summarise the rounds' *values*, of which there is at least one."""
    return Spread(median=median(values), lowest=min(values), highest=max(values))


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest of *values* that at least *share* of them do not exceed.

    An observed value and not an interpolation, so that a p99 is a latency somebody had.
    ``nan`` when there are no values.
    """
    if not values:
        return math.nan
    rank = max(1, math.ceil(share * len(values)))
    return sorted(values)[rank - 1]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Divide round by round: what both rounds suffered alike cancels out."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the least-squares slope of y over x; 0 when the points do not tell."""
    count = len(points)
    if not points:
        return 0.0
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    variance = sum((x - mean_x) ** 2 for x, _ in points)
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return covariance / variance if variance else 0.0
