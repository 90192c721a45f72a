"""A workload by its name or its file."""

from collections.abc import Callable, Mapping
from pathlib import Path

from twofold_sim.workloads import synthetic_agent
from twofold_sim.workloads.generated import Shape, generate
from twofold_sim.workloads.prompt import Prompt
from twofold_sim.workloads.reading import read_trace

GENERATED_COUNT = 10_000
"""Requests of a generated workload when nobody says how many."""

Make = Callable[[int | None, int], list[Prompt]]
"""Makes as many prompts as told, None: as many as it has, from a seed."""


def _synthetic_agent(count: int | None, seed: int) -> list[Prompt]:
    count = synthetic_agent.REQUESTS_PER_HOUR if count is None else count
    return synthetic_agent.synthetic_agent(count, seed)


def _generated(count: int | None, seed: int) -> list[Prompt]:
    return generate(Shape(), GENERATED_COUNT if count is None else count, seed)


SYNTHETIC: Mapping[str, Make] = {
    synthetic_agent.NAME: _synthetic_agent,
    "synthetic-zipf": _generated,
}
"""By the name that ``--trace`` takes in place of a file."""


def open_workload(name: str, *, count: int | None = None, seed: int = 0) -> list[Prompt]:
    """Generate the workload called *name*, or read the trace of that path; the first *count* of it.

    *seed* changes what is generated; a trace is what it is.

    Raises:
        WorkloadError: it is no trace that can be read.
    """
    make = SYNTHETIC.get(name)
    return make(count, seed) if make else read_trace(Path(name))[:count]


def name_of(workload: str) -> str:
    """Return how *workload*, as it is given to ``open_workload``, is called in a record."""
    return workload if workload in SYNTHETIC else Path(workload).stem
