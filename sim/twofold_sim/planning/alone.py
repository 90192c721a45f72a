"""What one worker does alone, of which the first guess for a cluster is made."""

import msgspec

from twofold_sim.planning.goodput import Bracket
from twofold_sim.planning.layout import Layout, Pairing
from twofold_sim.planning.load import Load
from twofold_sim.planning.trial import Objective
from twofold_sim.planning.trials import Trials
from twofold_sim.profiles import Profile, StepCosts

GROWTH = 2.0
TOLERANCE = 0.05
LEAST_QPS = 0.01
"""What is begun with where there is no goodput."""


class Alone:
    """Estimates goodputs from those of single workers, as DistServe does (OSDI 2024, section 4.1).

    A prefill worker is one whose requests end with their first token; a decode worker one before
    which prompts are computed in no time.
    """

    def __init__(self, load: Load, objective: Objective) -> None:
        self._whole = Trials(load, objective)
        self._first_tokens = Trials(load.with_one_token(), objective)
        self._prefill: dict[Profile, float] = {}
        self._decode: dict[Profile, float] = {}
        self._both: dict[Profile, float] = {}
        self._guess_qps = 1.0

    @property
    def run_count(self) -> int:
        return self._whole.run_count + self._first_tokens.run_count

    def estimate(self, layout: Layout) -> float:
        """Return what *layout* serves if its workers are as good together as alone."""
        prefill, decode = layout.pairing.prefill, layout.pairing.decode
        if prefill is None:
            return layout.decode_count * self.both(decode)
        return min(
            layout.prefill_count * self.prefill(prefill), layout.decode_count * self.decode(decode)
        )

    def prefill(self, profile: Profile) -> float:
        """Return the goodput of one worker that prefills."""
        if profile not in self._prefill:
            self._prefill[profile] = self._goodput(self._first_tokens, _together(profile))
        return self._prefill[profile]

    def decode(self, profile: Profile) -> float:
        """Return the goodput of one worker that decodes."""
        if profile not in self._decode:
            self._decode[profile] = self._goodput(self._whole, _behind_timeless(profile))
        return self._decode[profile]

    def both(self, profile: Profile) -> float:
        """Return the goodput of one worker that does both."""
        if profile not in self._both:
            self._both[profile] = self._goodput(self._whole, _together(profile))
        return self._both[profile]

    def stay_seconds(self, pairing: Pairing) -> float:
        """Return how long nine of ten requests stay at most, from the arrival to the last token,
        at one worker of *pairing* that decodes and has as many as it serves well; 0 if none ends.
        """
        decode = pairing.decode
        layout, qps = (
            (_together(decode), self.both(decode))
            if pairing.is_aggregated
            else (_behind_timeless(decode), self.decode(decode))
        )
        figures = self._whole.figures(layout, max(qps, LEAST_QPS))
        return figures.end_seconds.p90 or 0.0

    def _goodput(self, trials: Trials, layout: Layout) -> float:
        found: Bracket = trials.goodput(layout, self._guess_qps, growth=GROWTH, tolerance=TOLERANCE)
        return found.good_qps


def _together(profile: Profile) -> Layout:
    return Layout(pairing=Pairing(decode=profile), decode_count=1)


def _behind_timeless(profile: Profile) -> Layout:
    pairing = Pairing(prefill=_timeless(profile), decode=profile)
    return Layout(pairing=pairing, prefill_count=1, decode_count=1)


def _timeless(profile: Profile) -> Profile:
    """Return an engine that computes prompts for *profile* in no time, and never is full."""
    return msgspec.structs.replace(
        profile,
        name="timeless",
        steps=StepCosts(),
        request_seconds=0.0,
        kv_capacity_tokens=10**9,
        max_batched_tokens=10**9,
        max_sequences=10**6,
    )
