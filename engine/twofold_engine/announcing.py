"""The worker as others see it: its role, state and load, announced as they change."""

import asyncio
import contextlib
import logging
from collections.abc import Iterable

import msgspec

from twofold_cluster.errors import Fault
from twofold_cluster.identity import Role
from twofold_cluster.membership import Announcer, connect
from twofold_cluster.worker import Worker, WorkerState
from twofold_engine.errors import NotDeliveredError
from twofold_engine.gate import Gate
from twofold_engine.load import LoadMeter
from twofold_engine.roles import InFlight, RolePolicy, load_policy
from twofold_engine.settings import WorkerSettings

DELIVERY_LIMIT_SECONDS = 3.0
"""Of a change of state to Redis; shorter than what the supervisor waits for an answer."""

_log = logging.getLogger(__name__)


class AnnouncedWorker:
    """Owns what is announced. Its gate, its meter and its role report changes to it."""

    def __init__(self, settings: WorkerSettings, meter: LoadMeter) -> None:
        self._settings = settings
        self._meter = meter
        self._policy = load_policy(settings.role)
        self._gate: Gate | None = None
        self._worker: Worker | None = None
        self._announcer: Announcer | None = None
        self._role_changed = asyncio.Event()
        self._draining = asyncio.Event()

    @property
    def policy(self) -> RolePolicy:
        return self._policy

    @property
    def worker(self) -> Worker:
        assert self._worker is not None, "the engine is not up yet"
        return self._worker

    @property
    def is_up(self) -> bool:
        """True once the engine has generated its first token."""
        return self._worker is not None

    def is_busy(self) -> bool:
        """Tell whether a request is here, or a block that somebody may still fetch."""
        return self.request_count > 0 or self._meter.is_busy

    @property
    def request_count(self) -> int:
        """How many requests are here."""
        assert self._gate is not None
        return self._gate.in_flight.request_count

    def admit(self, in_flight: InFlight) -> Fault | None:
        return self._policy.admit(in_flight, self._settings)

    def refresh(self) -> None:
        """Announce the load as it is now."""
        if self._worker is not None and self._gate is not None:
            load = self._meter.load(self._gate.in_flight)
            self._announce(msgspec.structs.replace(self._worker, load=load))

    async def drain(self) -> None:
        """Let the routers know that this worker leaves, then refuse new requests.

        Without Redis it refuses after a while all the same.
        """
        assert self._gate is not None
        self._announce(msgspec.structs.replace(self.worker, state=WorkerState.DRAINING))
        try:
            await self._delivered()
        except NotDeliveredError as error:
            _log.warning("draining untold: %s", error)
        finally:
            self._gate.close()
            self._draining.set()

    async def until_draining(self) -> None:
        """Return when new requests are refused."""
        await self._draining.wait()

    async def stand_by(self, standby: bool) -> None:
        """Let the routers know whether to send new requests. A draining worker stays so.

        Raises:
            NotDeliveredError: Redis does not have it yet; it will when it is back.
        """
        if self.worker.state is not WorkerState.DRAINING:
            state = WorkerState.STANDBY if standby else WorkerState.READY
            self._announce(msgspec.structs.replace(self.worker, state=state))
        await self._delivered()

    def have_adapters(self, names: Iterable[str]) -> None:
        """Announce the LoRA adapters that are loaded."""
        if self._worker is not None:
            self._announce(msgspec.structs.replace(self.worker, adapters=tuple(sorted(names))))

    def become(self, role: Role) -> None:
        """Take new requests in *role*; what is in flight ends as it began.

        Raises:
            UnknownRoleError: no installed package offers it.
        """
        self._policy = load_policy(role)
        self._role_changed.set()
        self._announce(msgspec.structs.replace(self.worker, role=role))
        _log.info("changed role", extra={"role": str(role)})

    async def run(self, worker: Worker, gate: Gate) -> None:
        """Announce *worker*, and do what its role asks for, until cancelled.

        Raises:
            FencedError: a newer incarnation has taken its id.
        """
        self._worker = worker
        self._gate = gate
        async with contextlib.AsyncExitStack() as stack:
            if self._settings.redis is not None:
                redis = await stack.enter_async_context(connect(self._settings.redis))
                self._announcer = Announcer(redis, worker)
            async with asyncio.TaskGroup() as tasks:
                if self._announcer is not None:
                    tasks.create_task(self._announcer.run())
                tasks.create_task(self._accompany())

    async def _accompany(self) -> None:
        """Run the role's own task, and another one when the role changes."""
        while True:
            self._role_changed.clear()
            async with asyncio.TaskGroup() as tasks:
                accompany = self._policy.accompany
                companion = (
                    tasks.create_task(accompany(self._settings, lambda: self.worker))
                    if accompany is not None
                    else None
                )
                await self._role_changed.wait()
                if companion is not None:
                    companion.cancel()

    async def _delivered(self) -> None:
        if self._announcer is None:
            return
        try:
            async with asyncio.timeout(DELIVERY_LIMIT_SECONDS):
                await self._announcer.delivered()
        except TimeoutError as error:
            raise NotDeliveredError("Redis does not take the announcement") from error

    def _announce(self, worker: Worker) -> None:
        self._worker = worker
        if self._announcer is not None:
            self._announcer.update(worker)
