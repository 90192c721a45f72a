"""The search for the layout with the greatest goodput.

After DistServe (Y. Zhong et al., OSDI 2024, arXiv 2401.09670, section 4): simulated runs, bisection
over the rate, one worker of each kind first, whose ratio says where to look. Unlike there, what is
compared in the end are whole clusters with the router's own placement, since a cluster is more
than its workers: requests wait for the one or the other, and the caches of many are not one's.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from twofold_sim.planning.alone import LEAST_QPS, Alone
from twofold_sim.planning.climbing import climb
from twofold_sim.planning.errors import NoRoomError, TooFewRequestsError, UnmeetableError
from twofold_sim.planning.layout import Layout, Pairing, layouts, pairings
from twofold_sim.planning.load import Load, Spacing, draw_load
from twofold_sim.planning.plan import Candidate, Plan
from twofold_sim.planning.trial import Objective
from twofold_sim.planning.trials import Trials
from twofold_sim.planning.unloaded import Unloaded, check_meetable, measure_unloaded
from twofold_sim.profiles import Profile
from twofold_sim.workloads import LongPrompts, Prompt

ALONE_COUNT = 300
"""Requests that single workers are measured on."""
LEAST_COUNT = 600
MOST_COUNT = 3000
"""Whole clusters are measured on no fewer and no more than these, and in between on as many as
arrive while a backlog becomes too long."""
LEAST_SECONDS = 180.0
TTFT_SLOS = 40.0
"""After so many TTFT SLOs a cluster that gets a fortieth too much is late by one."""
STAYS = 20.0
"""Times as long as nine of ten requests stay at most: how many are at work, and so who has to wait,
changes no faster than requests end."""
WARM_UP_STAYS = 3.0
"""Before those that are measured: in the first nobody leaves, so that nobody waits."""

HOPELESS_SHARE = 0.8
"""A pairing is given up if neither the guessed layout nor those beside it serve so much of what the
best does."""
TOLERANCE = 0.02
CLOSE_SHARE = 0.92
"""Layouts that serve so much of what the best does are run with the other seeds as well: chance may
have put them behind. The first two are in any case."""
MOST_FINALISTS = 5

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is to be planned."""

    workload: str
    """The name of what *prompts* are from."""
    prompts: Sequence[Prompt]
    profiles: Sequence[Profile]
    """Of one model, each with another tensor parallelism."""
    gpu_count: int
    objective: Objective
    spacing: Spacing = "poisson"
    measured_count: int | None = None
    """Requests that each run is measured on; None: as many as it takes."""
    seeds: tuple[int, ...] = (0, 1)
    long_prompts: LongPrompts | None = None
    """Those that were cut or left out of *prompts*."""

    def load(self, measured_count: int, seed: int, *, least_warm_up_count: int = 0) -> Load:
        return draw_load(
            self.prompts,
            self.measured_count or measured_count,
            least_warm_up_count=least_warm_up_count,
            spacing=self.spacing,
            seed=seed,
        )


def search(question: Question, tell: Tell = lambda line: None) -> Plan:
    """Search for the layout that serves the most requests a second well enough; *tell* takes a line
    for each step of the way.

    Raises:
        NoRoomError: there is no layout of so few GPUs.
        TooFewRequestsError: they cannot be too much for a cluster.
        UnmeetableError: not even engines with nothing else to do meet the objective, or no cluster
            at any rate.
    """
    began_at = time.perf_counter()
    small = question.load(ALONE_COUNT, question.seeds[0])
    unloaded = _unloaded(question, small, tell)
    meeting = check_meetable(unloaded, question.objective)
    alone = Alone(small, question.objective)
    guesses = [_guess(each.pairing, question.gpu_count, alone, tell) for each in meeting]
    guesses.sort(key=lambda guess: -guess.qps)
    stay_seconds = alone.stay_seconds(guesses[0].pairing)
    make_trials = partial(_trials, question, guesses[0].qps, stay_seconds)
    trials = make_trials(question.seeds[0])
    tell(
        f"each run of a cluster is measured on {trials.load.measured_count} requests, after "
        f"{trials.load.warm_up_count}; they stay for up to {stay_seconds:.3g} s"
    )
    hopeless = _climb_all(trials, guesses, question.gpu_count, tell)
    _look_beside_best(trials, guesses, tell)
    candidates, other_runs = _finals(question.seeds, trials, make_trials, tell)
    return Plan(
        workload=question.workload,
        gpu_count=question.gpu_count,
        objective=question.objective,
        spacing=question.spacing,
        candidates=tuple(candidates),
        hopeless={
            str(pairing): qps
            for pairing, qps in hopeless.items()
            if all(pairing != each.layout.pairing for each in candidates)
        },
        unmeetable=tuple(str(each.pairing) for each in unloaded if each not in meeting),
        seeds=question.seeds,
        measured_count=trials.load.measured_count,
        stay_seconds=stay_seconds,
        run_count=len(unloaded) + alone.run_count + trials.run_count + other_runs,
        seconds=time.perf_counter() - began_at,
        long_prompts=question.long_prompts,
    )


def enough_requests(qps: float, objective: Objective, stay_seconds: float) -> int:
    """Return how many requests tell whether *qps* of them, of whom nine in ten stay for at most
    *stay_seconds*, can go on for ever."""
    seconds = max(LEAST_SECONDS, TTFT_SLOS * objective.ttft_seconds, STAYS * stay_seconds)
    return min(max(int(qps * seconds), LEAST_COUNT), MOST_COUNT)


@dataclass(frozen=True, slots=True)
class _Guess:
    """What is expected of a pairing."""

    pairing: Pairing
    layouts: list[Layout]
    index: int
    """Of the layout that is expected to be the best."""
    qps: float

    @property
    def layout(self) -> Layout:
        return self.layouts[self.index]

    def around(self) -> Iterator[int]:
        """Yield the index, and those to both sides of it."""
        step = max(1, len(self.layouts) // 8)
        near = (self.index, self.index + step, self.index - step)
        return (index for index in near if 0 <= index < len(self.layouts))


def _unloaded(question: Question, load: Load, tell: Tell) -> list[Unloaded]:
    found = pairings(question.profiles, question.gpu_count)
    if not found:
        least = min(profile.gpu_count for profile in question.profiles)
        raise NoRoomError(
            f"the smallest worker takes {least} GPUs, and there are {question.gpu_count}"
        )
    measured = []
    for pairing in found:
        each = measure_unloaded(pairing, load, question.objective)
        tell(
            f"{pairing}, one request at a time: first token {each.ttft_seconds:.3g} s, "
            f"then each {each.tpot_seconds * 1000:.3g} ms, {each.met_share:.1%} on time"
        )
        measured.append(each)
    return measured


def _guess(pairing: Pairing, gpu_count: int, alone: Alone, tell: Tell) -> _Guess:
    found = layouts(pairing, gpu_count)
    estimates = [alone.estimate(layout) for layout in found]
    index = max(range(len(found)), key=estimates.__getitem__)
    tell(f"{found[index]}: about {estimates[index]:.3g} a second, from its workers alone")
    return _Guess(pairing, found, index, max(estimates[index], LEAST_QPS))


def _trials(question: Question, qps: float, stay_seconds: float, seed: int) -> Trials:
    load = question.load(
        enough_requests(qps, question.objective, stay_seconds),
        seed,
        least_warm_up_count=int(qps * WARM_UP_STAYS * stay_seconds),
    )
    return Trials(load, question.objective)


def _climb_all(
    trials: Trials, guesses: Sequence[_Guess], gpu_count: int, tell: Tell
) -> dict[Pairing, float]:
    """Find the best layout of each pairing; return those that were given up."""
    hopeless: dict[Pairing, float] = {}
    most_qps = 0.0
    for guess in guesses:
        least_qps = most_qps * HOPELESS_SHARE
        start = next(
            (at for at in guess.around() if trials.is_good(guess.layouts[at], least_qps)), None
        )
        if start is None:
            hopeless[guess.pairing] = least_qps
            tell(f"{guess.pairing}: less than {least_qps:.3g} a second; given up")
            continue
        qps = max(guess.qps, most_qps)
        best = climb(trials, guess.layouts, start, qps, tolerance=TOLERANCE)
        found = trials.brackets[best]
        if math.isinf(found.bad_qps):
            raise TooFewRequestsError(
                f"{trials.load.measured_count} requests are not too much for {best}, as fast as "
                f"they may come, within {trials.objective.ttft_seconds:g} s"
            )
        most_qps = max(most_qps, found.good_qps)
        tell(f"{best}: {found.good_qps:.3g} a second")
    if not most_qps:
        raise UnmeetableError(
            "engines with one request at a time can do it, but at no rate can a cluster of "
            f"{gpu_count} GPUs, with the requests arriving as they do: {_nearest(trials)}"
        )
    return hopeless


def _nearest(trials: Trials) -> str:
    """Say how near to the objective the best of those came that were run, where none meets it."""
    runs = {
        (layout, bracket.bad_qps): trials.figures(layout, bracket.bad_qps)
        for layout, bracket in trials.brackets.items()
    }
    (layout, qps), best = max(runs.items(), key=lambda run: run[1].slo_share)
    slo = trials.objective
    return (
        f"with {slo.good_share:.0%} asked for, {best.slo_share:.0%} of them meet both SLOs at best "
        f"({layout}, {qps:.3g} a second), {best.on_time_share:.0%} the TTFT of "
        f"{slo.ttft_seconds * 1000:.4g} ms and {best.tpot_share:.0%} the TPOT of "
        f"{slo.tpot_seconds * 1000:.4g} ms"
    )


def _look_beside_best(trials: Trials, guesses: Sequence[_Guess], tell: Tell) -> None:
    """Search the goodput of those that are beside the best, and of two that are aggregated: it
    says what it is worth to separate the phases."""
    best = max(trials.brackets, key=lambda layout: trials.brackets[layout].good_qps)
    beside = next(guess.layouts for guess in guesses if best in guess.layouts)
    index = beside.index(best)
    wanted = [*beside[max(index - 1, 0) : index], *beside[index + 1 : index + 2]]
    wanted += [guess.layout for guess in guesses if guess.pairing.is_aggregated][:2]
    for layout in wanted:
        known = trials.brackets.get(layout)
        if known is None or known.good_qps == 0.0:
            qps = trials.brackets[best].good_qps
            found = trials.goodput(layout, min(qps, known.bad_qps if known else qps) * 0.97)
            tell(f"{layout}: {found.good_qps:.3g} a second")


def _finals(
    seeds: Sequence[int], trials: Trials, make_trials: Callable[[int], Trials], tell: Tell
) -> tuple[list[Candidate], int]:
    """Compare the best with the other seeds as well, and measure all that are known well.

    Returns also the number of runs that this took with other seeds.
    """
    known = [
        layout
        for layout, bracket in trials.brackets.items()
        if 0.0 < bracket.bad_qps <= bracket.good_qps * (1 + TOLERANCE)
    ]
    known.sort(key=lambda layout: -trials.brackets[layout].good_qps)
    others = [make_trials(seed) for seed in seeds[1:]]
    candidates = []
    close_qps = CLOSE_SHARE * trials.brackets[known[0]].good_qps
    for number, layout in enumerate(known):
        found = [trials.brackets[layout].good_qps]
        if number < 2 or (found[0] >= close_qps and number < MOST_FINALISTS):
            found += [each.goodput(layout, found[0]).good_qps for each in others]
            tell(f"{layout}: {', '.join(f'{each:.3g}' for each in found)} a second with the seeds")
        figures = trials.figures(layout, found[0])
        candidates.append(Candidate(layout=layout, goodputs=tuple(found), figures=figures))
    # Who was run with one seed only stays behind those who were run with all.
    candidates.sort(key=lambda each: (-len(each.goodputs), -each.goodput_qps))
    return candidates, sum(each.run_count for each in others)
