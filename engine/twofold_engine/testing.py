"""Doubles for what stands at the edges of this package."""

import asyncio
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from twofold_cluster.identity import Role, WorkerId
from twofold_engine.errors import EngineError, SupersededError
from twofold_engine.events import Step
from twofold_engine.pools.handles import Description, Handle, LostWorkerError
from twofold_engine.pools.wanting import Pool
from twofold_engine.settings import WorkerSettings
from twofold_engine.supervising import ProcessState


@dataclass
class FakeHandle:
    """A worker without a process. A test moves it on: ``become_ready``, ``crash``, ``lose``, or
    gives it to another manager: ``hand_over``."""

    settings: WorkerSettings
    pool: Pool
    process: ProcessState = field(default_factory=ProcessState)
    lost: bool = False
    has_place: asyncio.Event = field(default_factory=asyncio.Event)
    may_start: asyncio.Event = field(default_factory=asyncio.Event)
    start_error: Exception | None = None
    state_error: Exception | None = None
    drain_fails: bool = False
    drained: bool = False
    drain_may_end: asyncio.Event = field(default_factory=asyncio.Event)
    standby_fails: bool = False
    standby: bool = False
    standby_attempts: int = 0
    standby_may_end: asyncio.Event = field(default_factory=asyncio.Event)
    adapters: dict[str, str] = field(default_factory=dict)
    adapter_attempts: int = 0
    started: bool = False
    stopped: bool = False
    superseded: bool = False

    def become_ready(self, warning: str = "") -> None:
        self.process = ProcessState(
            message="ready",
            step=Step.READY,
            address="http://127.0.0.1:1",
            pid=1,
            warning=warning,
        )

    def crash(self, message: str = "ended with signal 9") -> None:
        self.process = ProcessState(message=message, ended=True)

    def lose(self) -> None:
        self.lost = True

    def hand_over(self) -> tuple[Description, "FakeHandle"]:
        """Return what the next manager adopts; this handle is of no more use to the last one."""
        successor = copy.copy(self)
        self.superseded = True
        description = Description(
            worker_id=self.settings.worker_id,
            incarnation=self.settings.incarnation,
            pool=self.pool,
            role=self.settings.role,
            node=f"node-of-{self.settings.worker_id}",
            process=self.process,
            adapters=dict(self.adapters),
            standby=self.standby,
            started=self.started,
            draining=self.drained,
        )
        return description, successor

    def __post_init__(self) -> None:
        self.standby = self.settings.standby
        self.may_start.set()
        self.drain_may_end.set()
        self.standby_may_end.set()

    async def start(self, placed: Callable[[], None]) -> str:
        if self.start_error is not None:
            raise self.start_error
        await self.has_place.wait()
        placed()
        await self.may_start.wait()
        if self.lost:
            raise LostWorkerError("no place for it")
        self.started = True
        return f"node-of-{self.settings.worker_id}"

    async def state(self) -> ProcessState:
        if self.superseded:
            raise SupersededError("another manager has taken over")
        if self.lost:
            raise LostWorkerError("its node has gone")
        if self.state_error is not None:
            raise self.state_error
        return self.process

    async def change_role(self, role: Role) -> None:
        self.settings = replace(self.settings, role=role)

    async def drain(self, limit_seconds: float) -> None:
        if self.drain_fails:
            raise EngineError("drain: the worker does not answer")
        self.drained = True
        await self.drain_may_end.wait()

    async def stand_by(self, standby: bool) -> None:
        self.standby_attempts += 1
        await self.standby_may_end.wait()
        if self.standby_fails:
            raise EngineError("standby: Redis does not take the announcement")
        self.standby = standby

    async def load_adapter(self, name: str, source: str) -> None:
        """Fail for a source that has "missing" in it."""
        self.adapter_attempts += 1
        if "missing" in source:
            raise EngineError(f"no adapter at {source}")
        self.adapters[name] = source

    async def unload_adapter(self, name: str) -> None:
        del self.adapters[name]

    async def stop(self, limit_seconds: float) -> None:
        if self.superseded:
            raise SupersededError("another manager has taken over")
        self.stopped = True


class FakeLauncher:
    """Launches nothing, and remembers every handle it gave, the last of each worker on top.

    Of those that are launched from then on, ``is_full``: they get no place; ``hangs``: they get
    one, and do not answer there; ``start_error``: what their starts raise. ``left``: workers of an
    earlier manager, each to be adopted once.
    """

    def __init__(self) -> None:
        self.handles: list[FakeHandle] = []
        self.is_full = False
        self.hangs = False
        self.start_error: Exception | None = None
        self.left: list[tuple[Description, FakeHandle]] = []

    async def adopt(self) -> Sequence[tuple[Description, Handle]]:
        left, self.left = self.left, []
        self.handles += [handle for _, handle in left]
        return left

    def launch(self, settings: WorkerSettings, pool: Pool) -> Handle:
        handle = FakeHandle(settings, pool, start_error=self.start_error)
        if not self.is_full:
            handle.has_place.set()
        if self.hangs:
            handle.may_start.clear()
        self.handles.append(handle)
        return handle

    def latest(self, worker_id: WorkerId) -> FakeHandle:
        return next(h for h in reversed(self.handles) if h.settings.worker_id == worker_id)
