"""Where workers run, as the pool manager sees it. Knows nothing of Ray, which is slow to import
and reads the environment as it is."""

from typing import Protocol

from twofold_cluster.identity import Role
from twofold_engine.errors import EngineError
from twofold_engine.pools.wanting import Build
from twofold_engine.settings import WorkerSettings
from twofold_engine.supervising import ProcessState


class LostWorkerError(EngineError):
    """The worker has gone with its actor or its node; nothing of it is left to stop."""


class Handle(Protocol):
    """One worker that was launched. All but ``state`` may take as long as they are allowed."""

    async def start(self) -> str:
        """Return the name of the machine that it got."""
        ...

    async def state(self) -> ProcessState: ...

    async def change_role(self, role: Role) -> None: ...

    async def stand_by(self, standby: bool) -> None: ...

    async def load_adapter(self, name: str, source: str) -> None: ...

    async def unload_adapter(self, name: str) -> None: ...

    async def drain(self, limit_seconds: float) -> None: ...

    async def stop(self, limit_seconds: float) -> None: ...


class Launcher(Protocol):
    def launch(self, settings: WorkerSettings, build: Build) -> Handle:
        """Ask for a place for a worker. It waits for one, and starts, in ``Handle.start``."""
        ...
