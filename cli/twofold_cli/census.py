"""Count what lives below this process, so that in the end nothing of it is left."""

import logging
import os
from collections.abc import Iterable

from twofold_cli.processes import ProcessId, descendants, kill_all, reap_adopted
from twofold_cli.shared_memory import mapped_files, remove_unmapped

MEMORY_EVERY = 5
"""Every how many censuses the memory maps are read, which costs more than counting heads."""

_log = logging.getLogger(__name__)


class Census:
    """What lives below this process, and what shared memory any of it ever had mapped."""

    def __init__(self) -> None:
        self.processes: tuple[ProcessId, ...] = ()
        self.shared_memory: frozenset[str] = frozenset()
        self._count = 0

    def take(self, *, own: Iterable[int] = ()) -> None:
        """Count again. *own* are the children that somebody else waits for."""
        self.processes = tuple(descendants(os.getpid()))
        if self._count % MEMORY_EVERY == 0:
            self.take_memory()
        self._count += 1
        reap_adopted(own)

    def take_memory(self) -> None:
        self.shared_memory |= mapped_files(process.pid for process in self.processes)

    def sweep(self) -> tuple[ProcessId, ...]:
        """Kill all that lives, and remove its shared memory; return who would not end."""
        below = {*self.processes, *descendants(os.getpid())}
        self.shared_memory |= mapped_files(process.pid for process in below)
        self.processes = tuple(kill_all(below))
        reap_adopted(())
        removed = remove_unmapped(self.shared_memory)
        _log.info("swept", extra={"survivors": len(self.processes), "shared_memory": removed})
        self.shared_memory = frozenset()
        return self.processes
