"""What a dashboard is made of."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["stat", "timeseries"]
Colour = Literal["green", "yellow", "orange", "red", "blue"]

Unit = Literal[
    "s", "reqps", "ops", "percentunit", "short", "none", "tps", "Bps", "dtdurations", "bool"
]
"""Grafana's ids; ``tps`` is our own word for tokens per second."""


@dataclass(frozen=True, slots=True)
class Query:
    """One expression of PromQL, and how its series are called."""

    expression: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """The colour of values from ``above`` on."""

    above: float
    colour: Colour


@dataclass(frozen=True, slots=True)
class Panel:
    """A picture of some queries. ``description`` says what it shows, and when to worry."""

    title: str
    description: str
    queries: tuple[Query, ...]
    unit: Unit = "short"
    kind: Kind = "timeseries"
    steps: tuple[Step, ...] = ()
    """Ascending; below the first all is green."""
    stacked: bool = False
    most: float | None = None
    """The end of the axis; None: as the values need."""
    base: Colour = "green"
    """The colour below the first step."""


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """``uid`` is part of the addresses that people keep, so that it never changes."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]

    def panels(self) -> Iterator[Panel]:
        for row in self.rows:
            yield from row.panels


def stat(
    title: str,
    description: str,
    expression: str,
    unit: Unit = "short",
    *steps: Step,
    base: Colour = "green",
) -> Panel:
    """Make a panel that shows one number."""
    return Panel(title, description, (Query(expression),), unit, "stat", steps, base=base)


def graph(
    title: str,
    description: str,
    unit: Unit,
    *queries: Query,
    steps: tuple[Step, ...] = (),
    stacked: bool = False,
    most: float | None = None,
) -> Panel:
    """Make a panel that shows how numbers go on."""
    return Panel(title, description, queries, unit, "timeseries", steps, stacked, most)
