"""What is possible at all: engines that have one request at a time."""

import math
from collections.abc import Iterable, Sequence

import msgspec

from twofold_sim.measuring import Served, quantile
from twofold_sim.planning.errors import UnmeetableError
from twofold_sim.planning.layout import Layout, Pairing
from twofold_sim.planning.load import Load
from twofold_sim.planning.trial import Objective, Trial

APART_SECONDS = 10_000.0
"""From one request to the next: longer than any answer takes."""


class Unloaded(msgspec.Struct, frozen=True, kw_only=True):
    """What a pairing does with one request at a time."""

    pairing: Pairing
    ttft_seconds: float
    """Of the share of the requests that is to be on time, the longest; infinite if some of them get
    no answer."""
    tpot_seconds: float
    met_share: float
    """Of the requests, those that meet both."""


def measure_unloaded(pairing: Pairing, load: Load, objective: Objective) -> Unloaded:
    """Run the measured requests of *load* on the smallest cluster of *pairing*."""
    layout = Layout(
        pairing=pairing, prefill_count=0 if pairing.is_aggregated else 1, decode_count=1
    )
    outcome = Trial(
        layout,
        load.apart(APART_SECONDS),
        objective,
        measured_count=load.measured_count,
        ends_early=False,
    ).run()
    served = outcome.served
    return Unloaded(
        pairing=pairing,
        ttft_seconds=_quantile(map(_ttft, served), objective.good_share),
        tpot_seconds=_quantile(map(_tpot, served), objective.good_share),
        met_share=outcome.met_count / outcome.measured_count,
    )


def check_meetable(found: Sequence[Unloaded], objective: Objective) -> list[Unloaded]:
    """Return those of *found* that meet *objective*.

    Raises:
        UnmeetableError: none does; the message says which SLO it is, and what the best is.
    """
    meeting = [each for each in found if each.met_share >= objective.good_share]
    if meeting:
        return meeting
    share = f"{objective.good_share:.0%} of the requests"
    first = min(found, key=lambda each: each.ttft_seconds)
    rest = min(found, key=lambda each: each.tpot_seconds)
    if math.isinf(first.ttft_seconds):
        raise UnmeetableError(
            f"fewer than {share} get an answer at all: the others are too long for each of these "
            "engines"
        )
    reasons = []
    if first.ttft_seconds > objective.ttft_seconds:
        reasons.append(
            f"a TTFT of {_ms(objective.ttft_seconds)} cannot be met: with one request at a time "
            f"the first token of {share} takes up to {_ms(first.ttft_seconds)}, and that is the "
            f"best ({first.pairing})"
        )
    if rest.tpot_seconds > objective.tpot_seconds:
        reasons.append(
            f"a TPOT of {_ms(objective.tpot_seconds)} cannot be met: with one request at a time "
            f"the tokens of {share} take up to {_ms(rest.tpot_seconds)} each, and that is the best "
            f"({rest.pairing})"
        )
    if not reasons:
        best = max(found, key=lambda each: each.met_share)
        reasons.append(
            f"a TTFT of {_ms(objective.ttft_seconds)} can be met, and so can a TPOT of "
            f"{_ms(objective.tpot_seconds)}, but not both: with one request at a time at best "
            f"{best.met_share:.0%} of the requests meet both ({best.pairing}), where a TTFT of "
            f"{_ms(best.ttft_seconds)} and a TPOT of {_ms(best.tpot_seconds)} hold for {share}"
        )
    raise UnmeetableError("; and ".join(reasons))


def _ttft(served: Served) -> float:
    return math.inf if served.ttft_seconds is None else served.ttft_seconds


def _tpot(served: Served) -> float:
    return math.inf if served.end_seconds is None else served.tpot_seconds or 0.0


def _quantile(values: Iterable[float], share: float) -> float:
    found = quantile(sorted(values), share)
    assert found is not None
    return found


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.4g} ms"
