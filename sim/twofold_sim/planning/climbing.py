"""Finds the best of layouts that lie beside one another, without running all of them."""

from collections.abc import Sequence

from twofold_sim.planning.goodput import Bracket
from twofold_sim.planning.layout import Layout
from twofold_sim.planning.trials import Trials

GROWTH = 1.15
"""Of the rate, from one run to the next where nothing is known."""


def climb(
    trials: Trials, beside: Sequence[Layout], start: int, guess_qps: float, tolerance: float
) -> Layout:
    """Return the best of *beside*, which begins at *start*.

    With every worker that goes from one phase to the other, the goodput rises as long as the one
    phase is short of workers, and falls as the other is. So from the best so far a step to either
    side, which halves when neither is better, finds the top; what is better is told by one run at
    the goodput of the best so far, and only then is it searched for.
    """
    best = beside[start]
    found = trials.goodput(best, guess_qps, growth=GROWTH, tolerance=tolerance)
    index, step = start, max(1, len(beside) // 8)
    while step:
        for other in (index + step, index - step):
            if 0 <= other < len(beside) and _is_better(trials, beside[other], found):
                index, best = other, beside[other]
                found = trials.goodput(best, found.bad_qps, growth=GROWTH, tolerance=tolerance)
                break
        else:
            step //= 2
    return best


def _is_better(trials: Trials, layout: Layout, than: Bracket) -> bool:
    return trials.is_good(layout, than.bad_qps)
