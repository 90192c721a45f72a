"""Stop the running cluster from outside."""

import signal
import time

from rich.console import Console

from twofold_cli.cleaning import clean_up, end_leftovers
from twofold_cli.errors import CliError
from twofold_cli.processes import ProcessId, is_alive, kill_all, send_signal
from twofold_cli.showing import say
from twofold_cli.state import ClusterState, StateDirectory

STOP_LIMIT_SECONDS = 90.0
"""The supervisor's graces together are 70 s."""

POLL_SECONDS = 0.1


class StillRunningError(CliError):
    """Processes of the cluster would not end, not even killed."""


def down(directory: StateDirectory, console: Console) -> None:
    """End the cluster and all that is left of it.

    Raises:
        StillRunningError: something would not end.
        CliError: one is being prepared, by a command that is still in the foreground.
    """
    state = directory.read()
    if not directory.is_locked():
        survivors = clean_up(directory)
        say(console, "nothing is running" if state is None else "stopped")
    elif state is None:
        raise CliError("a cluster is being prepared by another twofold up; end that one there")
    else:
        with console.status(f"stopping {state.served_name}"):
            survivors = _stop(directory, state)
        say(console, "stopped")
    if survivors:
        raise StillRunningError(f"processes that would not end: {survivors}")


def _stop(directory: StateDirectory, state: ClusterState) -> list[ProcessId]:
    send_signal(state.supervisor, signal.SIGTERM)
    deadline = time.monotonic() + STOP_LIMIT_SECONDS
    while is_alive(state.supervisor) and time.monotonic() < deadline:
        state = directory.read() or state  # processes may have come meanwhile
        time.sleep(POLL_SECONDS)
    survivors = [*kill_all([state.supervisor]), *end_leftovers(state)]
    if not directory.is_locked():
        directory.remove()
    return survivors
