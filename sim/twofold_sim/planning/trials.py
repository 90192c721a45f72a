"""What is known of layouts from their runs."""

from twofold_sim.measuring.measures import Figures, figures
from twofold_sim.planning.goodput import Bracket, search_goodput
from twofold_sim.planning.layout import Layout
from twofold_sim.planning.load import Load
from twofold_sim.planning.trial import Objective, Trial


class Trials:
    """Runs layouts on one load, and remembers.

    Invariant: ``brackets`` has every layout that was run; whatever is in its bracket was not run,
    and what is outside of it never is again.
    """

    def __init__(self, load: Load, objective: Objective) -> None:
        self.load = load
        self.objective = objective
        self.brackets: dict[Layout, Bracket] = {}
        self.run_count = 0

    def is_good(self, layout: Layout, qps: float) -> bool:
        """Tell whether *layout* serves *qps* well enough."""
        known = self.brackets.get(layout, Bracket())
        if qps <= known.good_qps:
            return True
        if qps >= known.bad_qps:
            return False
        self.run_count += 1
        is_good = self._run(layout, qps)
        self.brackets[layout] = (
            Bracket(qps, known.bad_qps) if is_good else Bracket(known.good_qps, qps)
        )
        return is_good

    def goodput(
        self, layout: Layout, guess_qps: float, *, growth: float = 1.2, tolerance: float = 0.02
    ) -> Bracket:
        """Search the goodput of *layout*."""
        return search_goodput(
            lambda qps: self.is_good(layout, qps),
            guess_qps,
            growth=growth,
            tolerance=tolerance,
            known=self.brackets.get(layout),
        )

    def figures(self, layout: Layout, qps: float) -> Figures:
        """Return the figures of a run to the end."""
        self.run_count += 1
        outcome = self._trial(layout, qps, ends_early=False).run()
        return figures(outcome.served, self.objective.slo)

    def _run(self, layout: Layout, qps: float) -> bool:
        return self._trial(layout, qps, ends_early=True).run().is_good

    def _trial(self, layout: Layout, qps: float, *, ends_early: bool) -> Trial:
        return Trial(
            layout,
            self.load.at(qps),
            self.objective,
            warm_up_count=self.load.warm_up_count,
            measured_count=self.load.measured_count,
            seed=self.load.seed,
            ends_early=ends_early,
        )
