"""The top of layouts that lie beside one another."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from twofold_sim.planning.climbing import climb
from twofold_sim.planning.layout import Layout, Pairing, layouts
from twofold_sim.planning.load import draw_load
from twofold_sim.planning.trial import Objective
from twofold_sim.planning.trials import Trials
from twofold_sim.profiles import Profile, StepCosts
from twofold_sim.workloads import Prompt

PROFILE = Profile(
    name="tp1", source="made up", steps=StepCosts(base_seconds=0.01), kv_capacity_tokens=10_000
)


class KnownTrials(Trials):
    """Trials whose outcomes are known beforehand: the limit of each layout."""

    def __init__(self, limits: dict[Layout, float]) -> None:
        prompt = Prompt(at=0.0, prompt_tokens=10, output_tokens=1, block_ids=(1,))
        super().__init__(draw_load([prompt], 1), Objective(ttft_seconds=1.0, tpot_seconds=1.0))
        self._limits = limits
        self.tried: set[Layout] = set()

    def _run(self, layout: Layout, qps: float) -> bool:
        self.tried.add(layout)
        return qps <= self._limits[layout]


def make_trials(limits: Sequence[float]) -> tuple[KnownTrials, list[Layout]]:
    beside = layouts(Pairing(prefill=PROFILE, decode=PROFILE), len(limits) + 1)
    return KnownTrials(dict(zip(beside, limits, strict=True))), beside


@given(
    data=st.data(), count=st.integers(1, 40), prefill=st.floats(0.2, 5), decode=st.floats(0.2, 5)
)
def test_the_top_is_found_from_anywhere(
    data: st.DataObject, count: int, prefill: float, decode: float
) -> None:
    limits = [
        min(workers * prefill, (count + 1 - workers) * decode) for workers in range(1, count + 1)
    ]
    trials, beside = make_trials(limits)
    start = data.draw(st.integers(0, count - 1))
    best = climb(trials, beside, start, guess_qps=limits[start], tolerance=0.02)

    assert limits[beside.index(best)] >= max(limits) / 1.02


def test_most_layouts_are_not_run() -> None:
    limits = [min(workers * 1.0, (64 - workers) * 2.0) for workers in range(1, 64)]
    trials, beside = make_trials(limits)
    best = climb(trials, beside, 35, guess_qps=40.0, tolerance=0.02)

    assert best.prefill_count in (42, 43)
    assert len(trials.tried) <= 12
    assert trials.run_count <= 40


def test_a_run_is_made_once() -> None:
    trials, [layout] = make_trials([2.0])
    found = trials.goodput(layout, 1.0)
    count = trials.run_count
    trials.goodput(layout, 5.0)

    assert trials.is_good(layout, found.good_qps / 2)
    assert not trials.is_good(layout, found.bad_qps * 2)
    assert trials.run_count == count > 0
