"""What a search has found."""

from typing import Literal

import msgspec

from twofold_sim.measuring.measures import Figures
from twofold_sim.planning.layout import Layout
from twofold_sim.planning.load import Spacing
from twofold_sim.planning.trial import Objective
from twofold_sim.workloads import LongPrompts

SHORT_TTFT_SLOS = 10.0
SHORT_STAYS = 10.0

Binding = Literal["TTFT", "TPOT"]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A layout whose goodput is known."""

    layout: Layout
    goodputs: tuple[float, ...]
    """In requests a second, for each seed with which it was searched for."""
    figures: Figures
    """Of the requests at that rate, with the first seed."""

    @property
    def goodput_qps(self) -> float:
        """Return the mean over the seeds."""
        return sum(self.goodputs) / len(self.goodputs)

    @property
    def binding(self) -> Binding:
        """Return the SLO that is missed more often at the goodput."""
        figures = self.figures
        return "TTFT" if figures.on_time_share <= figures.tpot_share else "TPOT"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The best layout, and what it was compared with."""

    workload: str
    gpu_count: int
    objective: Objective
    spacing: Spacing
    candidates: tuple[Candidate, ...]
    """The best first; those that were run with fewer seeds after the others."""
    hopeless: dict[str, float]
    """By pairing, the requests a second that were too many for its layouts about where the best
    was expected; no more of it was run."""
    unmeetable: tuple[str, ...]
    """Pairings that do not meet the objective with one request at a time."""
    seeds: tuple[int, ...]
    measured_count: int
    """Requests that each run was measured on."""
    stay_seconds: float
    """From the arrival to the last token, nine of ten requests at most."""
    run_count: int
    seconds: float
    """That the search took."""
    long_prompts: LongPrompts | None = None
    """Those of the workload that were cut or left out: the plan is not for them as they are."""

    @property
    def best(self) -> Candidate:
        return self.candidates[0]

    @property
    def runner_up(self) -> Candidate | None:
        return self.candidates[1] if len(self.candidates) > 1 else None

    @property
    def unused_gpu_count(self) -> int:
        """Return how many GPUs the best layout leaves over."""
        return self.gpu_count - self.best.layout.gpu_count

    @property
    def measured_seconds(self) -> float:
        """Return how long the measured requests take to arrive at the best layout's goodput."""
        return self.measured_count / self.best.goodput_qps

    @property
    def is_short(self) -> bool:
        """Tell whether a backlog had hardly the time to become too long, so that the goodputs may
        be too great."""
        return self.measured_seconds < max(
            SHORT_TTFT_SLOS * self.objective.ttft_seconds, SHORT_STAYS * self.stay_seconds
        )

    @property
    def max_model_tokens(self) -> int:
        """Return the most tokens of a prompt and its answer that the best layout was run with."""
        return min(engine.context_tokens for engine in self.best.layout.pairing.engines)

    @property
    def trained_tokens(self) -> int | None:
        """Return the most that its model takes, if that is less."""
        told = [engine.trained_tokens for engine in self.best.layout.pairing.engines]
        least = min(filter(None, told), default=self.max_model_tokens)
        return least if least < self.max_model_tokens else None

    def per_gpu(self, candidate: Candidate) -> float:
        """Return the goodput for each GPU that there is, used or not."""
        return candidate.goodput_qps / self.gpu_count

    def behind(self, candidate: Candidate) -> float:
        """Return the share by which *candidate* serves less than the best with the same seeds."""
        best = sum(self.best.goodputs[: len(candidate.goodputs)])
        return 1 - sum(candidate.goodputs) / best

    @property
    def is_certain(self) -> bool:
        """Tell whether the best is better than the runner-up with every seed."""
        other = self.runner_up
        if other is None:
            return True
        pairs = zip(self.best.goodputs, other.goodputs, strict=False)
        return all(mine > others for mine, others in pairs)
