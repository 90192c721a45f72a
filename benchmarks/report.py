"""What a benchmark leaves: a table to read, goals that were met or missed, a JSON file."""

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec


class Goal(msgspec.Struct, frozen=True):
    """A figure and the most that it may be."""

    name: str
    figure: float
    limit: float
    unit: str = ""

    @property
    def met(self) -> bool:
        """A figure that could not be measured (nan) meets nothing."""
        return self.figure <= self.limit


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Render a Markdown table: the first column to the left, the others to the right."""
    lines = [
        _line(headers),
        _line(["---", *("---:" for _ in headers[1:])]),
        *(_line([_cell(value) for value in row]) for row in rows),
    ]
    return "\n".join(lines)


def goal_table(goals: Iterable[Goal]) -> str:
    """Render the goals with their verdicts."""
    rows = [
        (
            goal.name,
            _with_unit(goal.figure, goal.unit),
            _with_unit(goal.limit, goal.unit),
            "met" if goal.met else "MISSED",
        )
        for goal in goals
    ]
    return table(("goal", "figure", "at most", "verdict"), rows)


def publish(
    benchmark: str, results: dict[str, Any], goals: Sequence[Goal], json_path: Path | None
) -> int:
    """Say the goals; write them and *results* as JSON. Returns the exit code.

    *results* carries the machine, as it was described before the benchmark began.
    """
    say(goal_table(goals))
    if json_path is not None:
        verdicts = [msgspec.to_builtins(goal) | {"met": goal.met} for goal in goals]
        command = [sys.executable.rpartition("/")[2], "-m", f"benchmarks.{benchmark}"]
        document = {
            "benchmark": benchmark,
            "command": " ".join([*command, *sys.argv[1:]]),
            "goals": verdicts,
            **results,
        }
        encoded = msgspec.json.encode(document)
        json_path.write_bytes(msgspec.json.format(encoded, indent=1) + b"\n")
    return 0 if all(goal.met for goal in goals) else 1


def say(text: str) -> None:
    """Tell whoever runs the benchmark."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _with_unit(figure: float, unit: str) -> str:
    return f"{_cell(figure)} {unit}".rstrip()


def _cell(value: object) -> str:
    """Show three significant digits of a float, and whole numbers from a thousand on."""
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
