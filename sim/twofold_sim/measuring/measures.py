"""The figures of one run."""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from twofold_sim.measuring.quantiles import Quantiles, curve, quantiles
from twofold_sim.measuring.samples import Samples
from twofold_sim.measuring.served import Served

QUARTILES = 4


class Slo(msgspec.Struct, frozen=True, kw_only=True):
    """What is on time."""

    ttft_seconds: float = 5.0
    ttft_seconds_per_token: float = 0.0
    """Added for each token of the prompt."""
    tpot_seconds: float | None = None
    """None: any time for each token after the first is good."""

    def ttft_is_met(self, served: Served) -> bool:
        """Tell whether the first token came, and in time."""
        allowed = self.ttft_seconds + self.ttft_seconds_per_token * served.prompt_tokens
        return served.ttft_seconds is not None and served.ttft_seconds <= allowed

    def tpot_is_met(self, served: Served) -> bool:
        """Tell whether the last token came, and the others came in time."""
        if served.end_seconds is None:
            return False
        tpot_seconds = served.tpot_seconds
        return self.tpot_seconds is None or not tpot_seconds or tpot_seconds <= self.tpot_seconds


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Of a group of requests. Whoever was refused or lost is late, and in no quantile."""

    request_count: int
    shortest_prompt_tokens: int
    longest_prompt_tokens: int
    on_time_share: float
    """The effective capacity: the first token came within the SLO."""
    tpot_share: float
    """The other tokens did."""
    slo_share: float
    """Both."""
    ttft_seconds: Quantiles
    tpot_seconds: Quantiles
    end_seconds: Quantiles
    """From the arrival to the last token."""
    hit_rate: float
    """Of the tokens of the prompts that were computed (``Served.was_computed``), those that were
    cached. Whoever was refused before is left out, whoever was lost after is not."""
    refusals: dict[str, int]
    """By reason; those that were lost too."""
    modes: dict[str, int]
    transferred_count: int
    transferred_tokens: int


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """Of a run."""

    everyone: Figures
    quartiles: tuple[Figures, ...]
    """By the length of the prompt, the shortest first; equal ones by arrival."""
    hit_rate_ceiling: float | None
    """What ``everyone.hit_rate`` would be, of the same requests, with one cache that forgets
    nothing; with a failed worker a prompt that is computed twice may find its own blocks."""
    pending_variation: float | None
    """Coefficient of variation over the workers (``Samples.variation``), from the first measured
    arrival to the last."""
    moved_count: int
    """Waiting requests that changed their worker."""
    ttft_curve: tuple[float, ...]
    """The quantiles of TTFT in seconds at 0, 1 % and so on to 100 %, of those that have one."""


def measure(
    served: Sequence[Served],
    slo: Slo,
    *,
    samples: Samples | None = None,
    moved_count: int = 0,
    hit_rate_ceiling: float | None = None,
    warm_up_count: int = 0,
) -> Measures:
    """Measure a run whose requests are *served*, in any order.

    The first *warm_up_count* to arrive are not measured; but somebody must be left.
    """
    measured = sorted(served, key=_number)[warm_up_count:]
    assert measured, (len(served), warm_up_count)
    start, end = measured[0].at, measured[-1].at
    by_length = sorted(measured, key=_length)
    borders = [len(by_length) * number // QUARTILES for number in range(QUARTILES + 1)]
    quarters = [by_length[low:high] for low, high in itertools.pairwise(borders)]
    return Measures(
        everyone=figures(measured, slo),
        quartiles=tuple(figures(quarter, slo) for quarter in quarters if quarter),
        hit_rate_ceiling=hit_rate_ceiling,
        pending_variation=samples.variation(start, end) if samples else None,
        moved_count=moved_count,
        ttft_curve=curve(_known(each.ttft_seconds for each in measured)),
    )


def figures(group: Sequence[Served], slo: Slo) -> Figures:
    """Return the figures of *group*, in which there is somebody."""
    on_time = [slo.ttft_is_met(each) for each in group]
    steady = [slo.tpot_is_met(each) for each in group]
    computed = [each for each in group if each.was_computed]
    prompt_tokens = sum(each.prompt_tokens for each in computed)
    lengths = [each.prompt_tokens for each in group]
    return Figures(
        request_count=len(group),
        shortest_prompt_tokens=min(lengths),
        longest_prompt_tokens=max(lengths),
        on_time_share=sum(on_time) / len(group),
        tpot_share=sum(steady) / len(group),
        slo_share=sum(map(_both, on_time, steady)) / len(group),
        ttft_seconds=quantiles(_known(each.ttft_seconds for each in group)),
        tpot_seconds=quantiles(_known(each.tpot_seconds for each in group)),
        end_seconds=quantiles(_known(each.end_seconds for each in group)),
        hit_rate=sum(each.cached_tokens for each in computed) / max(prompt_tokens, 1),
        refusals=dict(sorted(Counter(each.refused for each in group if each.refused).items())),
        modes=dict(sorted(Counter(each.mode for each in group if each.mode).items())),
        transferred_count=sum(each.transferred_tokens > 0 for each in group),
        transferred_tokens=sum(each.transferred_tokens for each in group),
    )


def _known(values: Iterable[float | None]) -> Iterable[float]:
    return (value for value in values if value is not None)


def _both(one: bool, other: bool) -> bool:
    return one and other


def _number(served: Served) -> int:
    return served.number


def _length(served: Served) -> int:
    return served.prompt_tokens
