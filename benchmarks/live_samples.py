"""What one router made of one workload, and what the rounds give together."""

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import Any, Literal

import msgspec

from benchmarks.figures import quantile, spread
from benchmarks.load import OK
from benchmarks.replaying import NOT_ANSWERED, Replied
from benchmarks.report import Goal, table
from benchmarks.sim_engines import Prefilled
from benchmarks.systems import Mode

Workload = Literal["conversation", "synthetic-agent"]

SLO_SECONDS = 5.0
"""Of TTFT, in the engines' time."""
WARM_UP_SHARE = 0.25
"""Of the requests; they fill the caches and are not counted."""
OURS = "twofold"

_HEADERS = (
    *("", "on time", "TTFT p50, s", "p90, s", "hit rate", "skew"),
    *("router, CPU ms a request", "not answered with 200"),
)


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one system. Times are in the engines' seconds."""

    system: str
    workload: Workload
    mode: Mode
    qps: float
    round: int
    requests: int
    """Those that are counted."""
    on_time: float
    """Share of them."""
    ttft_p50: float | None
    """None, as the next, when so many were not answered while they were waited for."""
    ttft_p90: float | None
    hit_rate: float
    skew: float
    router_cpu_ms: float
    """For each request, the warm-up's too; of the clock's."""
    cores: float
    """Busy meanwhile, with whatever: near all of them, the machine was the limit."""
    sent_late_p99: float
    """Of the clock's seconds: by how much the load generator was late."""
    failures: dict[str, int]
    """By their outcome; those that were not waited for any longer are none."""


def assess(replies: Sequence[Replied], speed: float) -> dict[str, Any]:
    """Return the fields of a sample that the *replies* tell, of engines that are *speed* times as
    fast as the clock."""
    counted = replies[int(len(replies) * WARM_UP_SHARE) :]
    times = [reply.ttft * speed for reply in counted]
    failures: dict[str, int] = {}
    for reply in counted:
        if reply.outcome not in (OK, NOT_ANSWERED):
            failures[reply.outcome] = failures.get(reply.outcome, 0) + 1
    return {
        "requests": len(counted),
        "on_time": fmean(seconds <= SLO_SECONDS for seconds in times),
        "ttft_p50": _finite(quantile(times, 0.5)),
        "ttft_p90": _finite(quantile(times, 0.9)),
        "failures": failures,
        "sent_late_p99": quantile([reply.sent_late for reply in counted], 0.99),
    }


def hit_rate(engines: Sequence[Prefilled]) -> float:
    """Return the share of the prompts' tokens that were in a cache."""
    return sum(each.cached for each in engines) / max(1, sum(each.asked for each in engines))


def skew(engines: Iterable[Prefilled]) -> float:
    """Return the most tokens that one engine computed, over the mean."""
    computed = [each.asked - each.cached for each in engines]
    return max(computed) / max(1.0, fmean(computed))


def goals(samples: Sequence[Sample]) -> list[Goal]:
    """Ours is to be no worse than the best other in each case; those that tried nobody else are no
    case."""
    made = []
    for workload, mode, qps in _cases(samples):
        case = _of_case(samples, workload, mode, qps)
        shares = {system: _on_time(each) for system, each in case.items()}
        others = [share for system, share in shares.items() if not system.startswith(OURS)]
        if OURS in shares and others:
            name = f"{workload}, {mode}, {qps:g} a second: best other's share on time - ours"
            made.append(Goal(name, max(others) - shares[OURS], 0.0))
    return made


def render(samples: Sequence[Sample]) -> str:
    """Render a table for each case, the medians of the rounds."""
    parts = []
    for workload, mode, qps in _cases(samples):
        case = _of_case(samples, workload, mode, qps)
        counts = [each.requests for of_system in case.values() for each in of_system]
        title = f"{workload}, {mode}, {qps:g} requests a second, {max(counts)} counted"
        rows = [_row(system, of_system) for system, of_system in case.items()]
        parts.append(f"{title}\n\n{table(_HEADERS, rows)}")
    return "\n\n".join(parts)


def line(sample: Sample) -> str:
    """Say how a run went."""
    return (
        f"round {sample.round}: {sample.workload} {sample.mode} {sample.qps:g}/s {sample.system}: "
        f"{sample.on_time:.3f} on time, hit rate {sample.hit_rate:.3f}, skew {sample.skew:.2f}, "
        f"{sample.cores:.2f} cores busy"
    )


def _row(system: str, samples: Sequence[Sample]) -> tuple[object, ...]:
    return (
        system,
        _shown(_on_times(samples)),
        _median([each.ttft_p50 for each in samples]),
        _median([each.ttft_p90 for each in samples]),
        _median([each.hit_rate for each in samples]),
        _median([each.skew for each in samples]),
        _median([each.router_cpu_ms for each in samples]),
        sum(sum(each.failures.values()) for each in samples),
    )


def _cases(samples: Iterable[Sample]) -> list[tuple[Workload, Mode, float]]:
    return sorted({(each.workload, each.mode, each.qps) for each in samples})


def _of_case(
    samples: Iterable[Sample], workload: Workload, mode: Mode, qps: float
) -> dict[str, list[Sample]]:
    """Return the samples of a case by system, in the order of their first runs."""
    found: dict[str, list[Sample]] = {}
    for each in samples:
        if (each.workload, each.mode, each.qps) == (workload, mode, qps):
            found.setdefault(each.system, []).append(each)
    return found


def _on_times(samples: Iterable[Sample]) -> list[float]:
    return [each.on_time for each in samples]


def _on_time(samples: Iterable[Sample]) -> float:
    return spread(_on_times(samples)).median


def _shown(shares: Sequence[float]) -> str:
    over = spread(shares)
    if len(shares) == 1:
        return f"{over.median:.3f}"
    return f"{over.median:.3f} ({over.lowest:.3f} to {over.highest:.3f})"


def _median(values: Sequence[float | None]) -> object:
    known = [value for value in values if value is not None]
    return spread(known).median if len(known) == len(values) else "-"


def _finite(seconds: float) -> float | None:
    return seconds if seconds < float("inf") else None
