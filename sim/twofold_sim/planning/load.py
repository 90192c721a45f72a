"""The requests that every layout is tried on, as fast as one likes."""

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from twofold_sim.virtual.sweeping import window
from twofold_sim.workloads import Prompt, at_qps

Spacing = Literal["poisson", "trace"]
"""How arrivals follow one another: drawn as Poisson's, as DistServe does, or as in the trace."""

WARM_UP_SHARE = 0.3
"""Of those that are measured, how many come before them, so that they meet a cluster at work."""
COOL_DOWN_SHARE = 0.5
"""And after them, so that the last of them do not meet one that empties."""


class Load:
    """Requests in the order of a trace: some to warm up, those that are measured, some after them.

    The same at every rate but for the time between the arrivals, so that two layouts and two rates
    differ by nothing else.
    """

    def __init__(
        self, prompts: Sequence[Prompt], *, warm_up_count: int, measured_count: int, seed: int = 0
    ) -> None:
        assert 0 < measured_count <= len(prompts) - warm_up_count
        self.warm_up_count = warm_up_count
        self.measured_count = measured_count
        self.seed = seed
        self._prompts = prompts

    @property
    def measured(self) -> Sequence[Prompt]:
        return self._prompts[self.warm_up_count : self.warm_up_count + self.measured_count]

    def at(self, qps: float) -> list[Prompt]:
        """Return the requests as they arrive when *qps* do in a second on average."""
        return at_qps(self._prompts, qps)

    def apart(self, seconds: float) -> Iterator[Prompt]:
        """Yield those that are measured, one each *seconds*."""
        moments = itertools.count(0.0, seconds)
        for prompt, at in zip(self.measured, moments, strict=False):
            yield msgspec.structs.replace(prompt, at=at)

    def with_one_token(self) -> "Load":
        """Return the same, with answers of one token."""
        return Load(
            [msgspec.structs.replace(prompt, output_tokens=1) for prompt in self._prompts],
            warm_up_count=self.warm_up_count,
            measured_count=self.measured_count,
            seed=self.seed,
        )


def draw_load(
    prompts: Sequence[Prompt],
    measured_count: int,
    *,
    least_warm_up_count: int = 0,
    spacing: Spacing = "poisson",
    seed: int = 0,
) -> Load:
    """Take as many of *prompts* as are wanted, or of all of them the same parts.

    *least_warm_up_count* of them warm up if there are so many beside the others. *seed* says from
    which place, and what chance decides.
    """
    assert prompts
    usual_count = int(measured_count * WARM_UP_SHARE)
    wanted = int(measured_count * (1 + WARM_UP_SHARE + COOL_DOWN_SHARE))
    taken = window(prompts, wanted + max(least_warm_up_count - usual_count, 0), seed)
    part = min(1.0, len(taken) / wanted)
    warm_up_count = int(usual_count * part) + max(len(taken) - wanted, 0)
    return Load(
        taken if spacing == "trace" else _as_poisson(taken, seed),
        warm_up_count=warm_up_count,
        measured_count=min(max(int(measured_count * part), 1), len(taken) - warm_up_count),
        seed=seed,
    )


def _as_poisson(prompts: Sequence[Prompt], seed: int) -> list[Prompt]:
    rng = random.Random(f"arrivals {seed}")  # noqa: S311 - guards nothing
    moments = itertools.accumulate(rng.expovariate(1.0) for _ in prompts)
    return [
        msgspec.structs.replace(prompt, at=at) for prompt, at in zip(prompts, moments, strict=True)
    ]
