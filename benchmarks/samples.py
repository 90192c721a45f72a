"""What one system cost in one scenario of one round, and what the rounds give together."""

import math
from collections.abc import Sequence
from statistics import median

import msgspec

from benchmarks.figures import Spread, ratios, spread
from benchmarks.load import OK, LoadResult

MICRO = 1e6

FIGURES = ("cpu_us", "per_second", "p50_added_us", "p99_added_us")
"""The fields of a sample that are compared."""


class Spending(msgspec.Struct, frozen=True):
    """CPU seconds, by who spent them."""

    router: float
    """nan without a router."""
    engines: float
    others: float
    """Who has no part in the measurement."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement. What is counted is a request, or a streamed event in ``chunks``."""

    system: str
    scenario: str
    round: int
    counted: int
    cpu_us: float
    """Of the router for each that is counted; nan without a router."""
    engine_cpu_us: float
    per_second: float
    p50_us: float
    p99_us: float
    p50_added_us: float = math.nan
    p99_added_us: float = math.nan
    others_cores: float
    """What others took of the machine. Half a core on two makes latency and throughput theirs, and
    even CPU times longer, for they take the caches too."""
    failures: dict[str, int]


def sample(
    identity: tuple[str, str, int],
    result: LoadResult,
    spending: Spending,
    *,
    counts_events: bool,
) -> Sample:
    """Make a sample of *result*.

    *identity*: system, scenario, round.
    """
    system, scenario, round_number = identity
    counted = max(1, result.event_count if counts_events else len(result.succeeded()))
    outcomes = result.outcomes()
    return Sample(
        system=system,
        scenario=scenario,
        round=round_number,
        counted=counted,
        cpu_us=spending.router / counted * MICRO,
        engine_cpu_us=spending.engines / counted * MICRO,
        per_second=counted / result.seconds,
        p50_us=result.first_byte_seconds(0.5) * MICRO,
        p99_us=result.first_byte_seconds(0.99) * MICRO,
        others_cores=max(0.0, spending.others) / result.seconds,
        failures={outcome: n for outcome, n in outcomes.items() if outcome != OK},
    )


def add_latency(samples: Sequence[Sample], direct_name: str) -> list[Sample]:
    """Compare each sample with *direct_name*'s of the same scenario and round."""
    direct = {(s.scenario, s.round): s for s in samples if s.system == direct_name}
    return [_above(each, direct[each.scenario, each.round]) for each in samples]


def summary(samples: Sequence[Sample], system: str, scenario: str) -> dict[str, Spread]:
    """Return the spread over the rounds of each of FIGURES."""
    chosen = _of(samples, system, scenario)
    return {name: spread([getattr(each, name) for each in chosen]) for name in FIGURES}


def ratio(samples: Sequence[Sample], ours: str, theirs: str, scenario: str, figure: str) -> float:
    """Return the median over the rounds of *ours* through *theirs*."""
    pairs = [
        [getattr(each, figure) for each in _of(samples, system, scenario)]
        for system in (ours, theirs)
    ]
    return median(ratios(*pairs))


def _of(samples: Sequence[Sample], system: str, scenario: str) -> list[Sample]:
    chosen = [each for each in samples if (each.system, each.scenario) == (system, scenario)]
    return sorted(chosen, key=lambda each: each.round)


def _above(each: Sample, direct: Sample) -> Sample:
    return msgspec.structs.replace(
        each,
        p50_added_us=each.p50_us - direct.p50_us,
        p99_added_us=each.p99_us - direct.p99_us,
    )
