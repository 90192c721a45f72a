"""Show a cluster come up: a live table on a terminal, a line for each change elsewhere."""

import contextlib
import time
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from twofold_cli.state import ClusterState, ComponentState, Phase, WorkerState

REFRESH_PER_SECOND = 8

_STYLES = {Phase.READY: "green", Phase.DEAD: "red", Phase.DRAINING: "yellow"}


class Display(Protocol):
    def show(self, state: ClusterState) -> None: ...


class Lines:
    """One plain line for each thing that changes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._before: ClusterState | None = None

    def show(self, state: ClusterState) -> None:
        for line in changes(self._before, state):
            say(self._console, line)
        self._before = state


class LiveTable:
    """A table that is drawn again and again, so that spinners turn and seconds count."""

    def __init__(self) -> None:
        self._state: ClusterState | None = None
        self._spinner = Spinner("dots")

    def show(self, state: ClusterState) -> None:
        self._state = state

    def __rich__(self) -> Table:
        table = Table.grid(padding=(0, 2))
        if self._state is not None:
            for part in parts(self._state):
                table.add_row(*self._row(part))
        return table

    def _row(self, part: ComponentState | WorkerState) -> tuple[Spinner | Text, ...]:
        style = _STYLES.get(part.phase, "")
        mark = {Phase.READY: Text("ok", "green"), Phase.DEAD: Text("!!", "red")}.get(part.phase)
        seconds = "" if part.phase is Phase.READY else f"{max(0, time.time() - part.since):.0f} s"
        return (
            mark or self._spinner,
            Text(name_of(part)),
            Text(part.phase.value, style),
            Text(seconds, justify="right"),
            Text(part.message, overflow="ellipsis", no_wrap=True),
        )


@contextlib.contextmanager
def display(console: Console) -> Iterator[Display]:
    """Show states until the end of the block, as the console can."""
    if not console.is_terminal:
        yield Lines(console)
        return
    table = LiveTable()
    with Live(table, console=console, refresh_per_second=REFRESH_PER_SECOND):
        yield table


def changes(
    before: ClusterState | None, after: ClusterState, *, phases_only: bool = False
) -> list[str]:
    """Tell what has changed since *before*: a line for each component and worker."""
    known = {} if before is None else {name_of(part): part for part in parts(before)}
    lines = []
    for part in parts(after):
        old = known.pop(name_of(part), None)
        same_message = phases_only or (old is not None and old.message == part.message)
        if old is None or old.phase is not part.phase or not same_message:
            lines.append(_line(part))
    return lines + [f"{name}: gone" for name in known]


def name_of(part: ComponentState | WorkerState) -> str:
    return part.worker_id if isinstance(part, WorkerState) else part.name


def parts(state: ClusterState) -> list[ComponentState | WorkerState]:
    return [*state.components, *state.workers]


def say(console: Console, line: str) -> None:
    """Print *line* as it is: unwrapped, so that it can be copied, and without markup."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def age(seconds: float) -> str:
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    return f"{whole // 60}m" if whole < 3600 else f"{whole // 3600}h{whole % 3600 // 60}m"


def _line(part: ComponentState | WorkerState) -> str:
    restarts = f", restarts: {part.restarts}" if part.restarts else ""
    message = f" ({part.message})" if part.message else ""
    return f"{name_of(part)}: {part.phase}{message}{restarts}"
