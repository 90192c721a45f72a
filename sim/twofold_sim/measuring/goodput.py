"""The greatest QPS that is still served on time."""

from collections.abc import Iterable, Sequence

import msgspec

from twofold_sim.measuring.conditions import Conditions, conditions_of
from twofold_sim.measuring.record import Record

GOOD_SHARE = 0.9


class Goodput(msgspec.Struct, frozen=True):
    """Of one policy over a sweep."""

    qps: float | None
    """None: not even the least QPS of the sweep."""
    is_bound: bool = False
    """At the greatest QPS of the sweep it was still good, so it is at least that."""


def goodput(points: Iterable[tuple[float, float]], good_share: float = GOOD_SHARE) -> Goodput:
    """Return the greatest QPS up to which *good_share* of the requests are on time.

    *points* are QPS and share. Between the last point of the sweep that is good and the next, which
    is not, the share is taken to fall in a straight line. A policy that is good again after a point
    that was not gets nothing for it.
    """
    good: tuple[float, float] | None = None
    for qps, share in sorted(points):
        if share >= good_share:
            good = (qps, share)
        elif good is None:
            return Goodput(None)
        else:
            good_qps, least = good
            return Goodput(good_qps + (qps - good_qps) * (least - good_share) / (least - share))
    return Goodput(good[0], is_bound=True) if good else Goodput(None)


def goodputs(
    records: Sequence[Record], good_share: float = GOOD_SHARE
) -> dict[tuple[Conditions, str], dict[int, Goodput]]:
    """Return the goodput of each policy under each of the conditions in *records*, by seed, in
    order of the seeds."""
    points: dict[tuple[Conditions, str], dict[int, list[tuple[float, float]]]] = {}
    for record in records:
        seeds = points.setdefault((conditions_of(record), record.policy), {})
        point = (record.qps, record.measures.everyone.slo_share)
        seeds.setdefault(record.seed, []).append(point)
    return {
        sweep: {seed: goodput(seeds[seed], good_share) for seed in sorted(seeds)}
        for sweep, seeds in points.items()
    }


def middle(found: Sequence[Goodput]) -> Goodput:
    """Return the median of *found*, of two middle ones the lower."""
    return sorted(found, key=rank)[(len(found) - 1) // 2]


def rank(found: Goodput) -> float:
    return found.qps or 0.0
