"""Clean up after a supervisor that could not do it itself."""

from twofold_cli.commands import MARK_ENV
from twofold_cli.processes import ProcessId, is_alive, kill_all, marked
from twofold_cli.shared_memory import mapped_files, remove_unmapped
from twofold_cli.state import ClusterState, StateDirectory


def clean_up(directory: StateDirectory) -> list[ProcessId]:
    """End what a dead supervisor's state tells of, and forget it; return who would not end.

    The caller holds the lock, or knows that nobody does.
    """
    state = directory.read()
    if state is None:
        return []
    survivors = end_leftovers(state)
    directory.remove()
    return survivors


def end_leftovers(state: ClusterState) -> list[ProcessId]:
    """Kill the processes of *state* that still live, and remove the memory that they shared."""
    components = [part.process for part in state.components if part.process is not None]
    marked_ones = marked(MARK_ENV, state.mark)
    everybody = {*filter(is_alive, (*state.processes, *components)), *marked_ones}
    shared_memory = {*state.shared_memory, *mapped_files(process.pid for process in everybody)}
    survivors = kill_all(everybody)
    remove_unmapped(shared_memory)
    return survivors
