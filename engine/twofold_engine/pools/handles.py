"""Where workers run, as the pool manager sees it. Knows nothing of Ray, which is slow to import
and reads the environment as it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_engine.errors import EngineError
from twofold_engine.pools.wanting import Pool
from twofold_engine.settings import WorkerSettings
from twofold_engine.supervising import ProcessState


class LostWorkerError(EngineError):
    """The worker has gone with its actor or its node; nothing of it is left to stop."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a worker tells the manager that takes it over: all that its last one knew of it.

    ``pool`` is the one that it was launched for, ``role`` the one that it has now. ``adapters``
    are the sources of those that are loaded, by name. It is not ``started`` if its last manager
    ended before it could have it started.
    """

    worker_id: WorkerId
    incarnation: Incarnation
    pool: Pool
    role: Role
    node: str
    process: ProcessState
    adapters: Mapping[str, str]
    standby: bool
    started: bool
    draining: bool


class Handle(Protocol):
    """One worker that was launched. All but ``state`` may take as long as they are allowed.

    Each raises SupersededError once another manager has taken the worker over.
    """

    async def start(self, placed: Callable[[], None]) -> str:
        """Return the name of the machine that it got; call *placed* once it has a place there, for
        which alone it may wait for ever."""
        ...

    async def state(self) -> ProcessState: ...

    async def change_role(self, role: Role) -> None: ...

    async def stand_by(self, standby: bool) -> None: ...

    async def load_adapter(self, name: str, source: str) -> None: ...

    async def unload_adapter(self, name: str) -> None: ...

    async def drain(self, limit_seconds: float) -> None: ...

    async def stop(self, limit_seconds: float) -> None: ...


class Launcher(Protocol):
    async def adopt(self) -> Sequence[tuple[Description, Handle]]:
        """Take over the workers that earlier managers left, one of each id, and end what else of
        them is there: what waits for a place, and what does not answer."""
        ...

    def launch(self, settings: WorkerSettings, pool: Pool) -> Handle:
        """Return a worker of *pool* to be. It asks for a place, waits for it, and starts, in
        ``Handle.start``."""
        ...
