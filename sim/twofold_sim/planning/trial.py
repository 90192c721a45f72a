"""One simulated run of a layout, which ends as soon as its outcome is certain."""

import math
from collections.abc import Iterable, Iterator

import msgspec

from twofold_router.placement import POLICIES, Placer
from twofold_sim.measuring import Served, Slo
from twofold_sim.planning.fleet import LayoutFleet, parts_of
from twofold_sim.planning.layout import Layout
from twofold_sim.virtual import Setup
from twofold_sim.virtual.engines import answerable
from twofold_sim.virtual.events import EventQueue
from twofold_sim.virtual.exchange import Exchange
from twofold_sim.virtual.routing import Router
from twofold_sim.workloads import Prompt, key_of

POLICY = "twofold"
_ROUNDING = 1 + 1e-9
"""A token that comes at the very moment when it is due is on time."""


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """What a layout is to do."""

    ttft_seconds: float
    tpot_seconds: float
    good_share: float = 0.9
    """Of the requests, those that are to meet both."""

    @property
    def slo(self) -> Slo:
        return Slo(ttft_seconds=self.ttft_seconds, tpot_seconds=self.tpot_seconds)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the measured requests when a run ends."""

    measured_count: int
    met_count: int
    late_first_count: int
    """The first token was late, or never came."""
    late_rest_count: int
    """The first token was on time, and the others were not."""
    is_good: bool
    served: tuple[Served, ...] = ()
    """Those that ended; all of them if the run was not to end early."""


class Trial:
    """Serves requests until it is certain whether enough of the measured ones meet the objective.

    It is certain that one misses it when its first token is due and has not come, when the last is
    due and has not, or at its end. Used once.

    Invariant: a measured request is undecided, met, or late in one of two ways.
    """

    def __init__(
        self,
        layout: Layout,
        prompts: Iterable[Prompt],
        objective: Objective,
        *,
        warm_up_count: int = 0,
        measured_count: int,
        seed: int = 0,
        ends_early: bool = True,
    ) -> None:
        """Measure *measured_count* of *prompts*, which are in order of their arrivals, after
        *warm_up_count*; those that come after them are served while it is not certain."""
        parts = list(parts_of(layout).values())
        self._setup = Setup(cluster=parts[0], slo=objective.slo, seed=seed)
        self._answering = parts[-1]
        self._objective = objective
        self._events = EventQueue()
        self._router = Router(
            Placer(POLICIES[POLICY], self._setup.placement()),
            self._events,
            suspect_seconds=self._setup.suspect_seconds,
        )
        self._fleet = LayoutFleet(layout, self._setup, self._router, self._events)
        self._arrivals = self._arrive_one_by_one(prompts)
        self._measured = range(warm_up_count, warm_up_count + measured_count)
        self._ends_early = ends_early
        self._decided: set[int] = set()
        self._served: list[Served] = []
        self._met = self._late_first = self._late_rest = 0
        share = objective.good_share * measured_count
        self._enough = math.ceil(share - 1e-9)
        self._too_many = measured_count - self._enough + 1

    def run(self) -> Outcome:
        """Let the time pass until it is certain."""
        next(self._arrivals, None)
        try:
            self._events.run()
        except _CertainError:
            pass
        else:
            assert len(self._decided) == len(self._measured), (self._decided, self._measured)
        return Outcome(
            measured_count=len(self._measured),
            met_count=self._met,
            late_first_count=self._late_first,
            late_rest_count=self._late_rest,
            is_good=self._met >= self._enough,
            served=tuple(self._served),
        )

    def _arrive_one_by_one(self, prompts: Iterable[Prompt]) -> Iterator[None]:
        for number, asked in enumerate(prompts):
            prompt = answerable(asked, self._answering)
            exchange = Exchange(
                number,
                prompt,
                key_of(prompt),
                1.0,
                self._router,
                self._fleet,
                self._setup,
                self._ended,
            )
            self._events.add(prompt.at, self._arrive, exchange, prompt)
            yield

    def _arrive(self, exchange: Exchange, prompt: Prompt, now: float) -> None:
        next(self._arrivals, None)
        if exchange.number in self._measured:
            objective = self._objective
            first_due = objective.ttft_seconds * _ROUNDING
            rest = objective.tpot_seconds * (prompt.output_tokens - 1)
            self._events.add(now + first_due, self._first_is_due, exchange)
            self._events.add(now + (first_due + rest) * _ROUNDING, self._last_is_due, exchange)
        exchange.arrive(now)

    def _first_is_due(self, exchange: Exchange, now: float) -> None:
        if not exchange.has_begun and exchange.number not in self._decided:
            self._late_first += 1
            self._decide(exchange.number)

    def _last_is_due(self, exchange: Exchange, now: float) -> None:
        if exchange.number not in self._decided:
            self._late_rest += 1
            self._decide(exchange.number)

    def _ended(self, exchange: Exchange, served: Served) -> None:
        if exchange.number not in self._measured:
            return
        self._served.append(served)
        if exchange.number in self._decided:
            self._stop_if_certain()
            return
        slo = self._setup.slo
        if not slo.ttft_is_met(served):
            self._late_first += 1
        elif not slo.tpot_is_met(served):
            self._late_rest += 1
        else:
            self._met += 1
        self._decide(exchange.number)

    def _decide(self, number: int) -> None:
        self._decided.add(number)
        self._stop_if_certain()

    def _stop_if_certain(self) -> None:
        if self._ends_early:
            late = self._late_first + self._late_rest
            is_certain = self._met >= self._enough or late >= self._too_many
        else:
            is_certain = len(self._served) == len(self._measured)
        if is_certain:
            raise _CertainError


class _CertainError(Exception):
    """The outcome is certain: nothing else needs to happen."""
