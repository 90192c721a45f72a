"""The greatest rate that is still good, by bisection."""

import math
from collections.abc import Callable

import msgspec

REACH = 1000.0
"""What is so many times less than the first guess is taken for nothing, and what is so many times
more for no limit."""


class Bracket(msgspec.Struct, frozen=True):
    """The goodput is at least ``good_qps`` and less than ``bad_qps``."""

    good_qps: float = 0.0
    bad_qps: float = math.inf


def search_goodput(
    is_good: Callable[[float], bool],
    guess_qps: float,
    *,
    growth: float = 2.0,
    tolerance: float = 0.02,
    known: Bracket | None = None,
) -> Bracket:
    """Return a bracket no wider than *tolerance* of its lower end.

    From *guess_qps* on *growth* times more or less, until something is good and something is not;
    then the geometric middle, again and again. *known* is what is known before, and it is taken
    that whatever is less than something good is good. An end of the bracket stays open if it is out
    of reach.
    """
    assert guess_qps > 0, guess_qps
    bracket = known or Bracket()
    while bracket.good_qps == 0.0 or bracket.bad_qps == math.inf:
        if bracket.bad_qps < guess_qps / REACH or bracket.good_qps > guess_qps * REACH:
            return bracket
        qps = _beyond(bracket, guess_qps, growth)
        bracket = _narrowed(bracket, qps, is_good(qps))
    while bracket.bad_qps > bracket.good_qps * (1 + tolerance):
        qps = math.sqrt(bracket.good_qps * bracket.bad_qps)
        bracket = _narrowed(bracket, qps, is_good(qps))
    return bracket


def _beyond(bracket: Bracket, guess_qps: float, growth: float) -> float:
    """Return what to try next while one end is open."""
    if bracket.good_qps:
        return max(bracket.good_qps * growth, guess_qps)
    return min(bracket.bad_qps / growth, guess_qps)


def _narrowed(bracket: Bracket, qps: float, is_good: bool) -> Bracket:
    if is_good:
        return Bracket(max(bracket.good_qps, qps), bracket.bad_qps)
    return Bracket(bracket.good_qps, min(bracket.bad_qps, qps))
