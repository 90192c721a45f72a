"""A workload by its name or its file."""

from collections.abc import Callable, Mapping
from pathlib import Path

from twofold_sim.workloads import synthetic_agent
from twofold_sim.workloads.errors import WorkloadError
from twofold_sim.workloads.generated import generate
from twofold_sim.workloads.prompt import Prompt
from twofold_sim.workloads.reading import read_trace
from twofold_sim.workloads.shape import Shape

GENERATED = "synthetic-zipf"
"""The workload that has a shape."""

GENERATED_COUNT = 10_000
"""Requests of a generated workload when nobody says how many."""

Make = Callable[[int | None, int], list[Prompt]]
"""Makes as many prompts as told, None: as many as it has, from a seed."""


def _synthetic_agent(count: int | None, seed: int) -> list[Prompt]:
    count = synthetic_agent.REQUESTS_PER_HOUR if count is None else count
    return synthetic_agent.synthetic_agent(count, seed)


def _generated(count: int | None, seed: int) -> list[Prompt]:
    return _shaped(count, seed, Shape())


def _shaped(count: int | None, seed: int, shape: Shape) -> list[Prompt]:
    return generate(shape, GENERATED_COUNT if count is None else count, seed)


SYNTHETIC: Mapping[str, Make] = {
    synthetic_agent.NAME: _synthetic_agent,
    GENERATED: _generated,
}
"""By the name that ``--trace`` takes in place of a file."""


def open_workload(
    name: str, *, count: int | None = None, seed: int = 0, shape: Shape | None = None
) -> list[Prompt]:
    """Generate the workload called *name*, or read the trace of that path; the first *count* of it.

    *seed* changes what is generated, and *shape* that of ``GENERATED``; a trace is what it is.

    Raises:
        WorkloadError: it is no trace that can be read, or has no shape that could be told.
    """
    if shape is not None:
        if name != GENERATED:
            raise WorkloadError(f"{name}: only {GENERATED} has a shape that can be told")
        return _shaped(count, seed, shape)
    make = SYNTHETIC.get(name)
    return make(count, seed) if make else read_trace(Path(name))[:count]


def name_of(workload: str) -> str:
    """Return how *workload*, as it is given to ``open_workload``, is called in a record."""
    return workload if workload in SYNTHETIC else Path(workload).stem
