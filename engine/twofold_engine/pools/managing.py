"""The pool manager: looks at the workers, plans, and acts, over and over."""

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import Redis

from twofold_cluster.identity import Incarnation, WorkerId, new_incarnation
from twofold_cluster.membership import read_incarnations, withdraw
from twofold_cluster.membership.entries import REDIS_IS_AWAY
from twofold_cluster.worker import Gone
from twofold_engine.errors import (
    EngineError,
    InvalidPoolError,
    SupersededError,
    UnknownWorkerError,
)
from twofold_engine.pools.adapting import AdapterState, Load, Unload, next_step
from twofold_engine.pools.claiming import Claim
from twofold_engine.pools.handles import Launcher, LostWorkerError
from twofold_engine.pools.member import Member, adopted
from twofold_engine.pools.planning import (
    Action,
    ChangeRole,
    Drain,
    Phase,
    Remove,
    StandBy,
    Start,
    plan,
)
from twofold_engine.pools.settings import ManagerSettings, worker_settings
from twofold_engine.pools.wanting import Adapter, Pool, validate, validate_adapters
from twofold_kvtransfer.directory import Directory

INTERVAL_SECONDS = 0.5
OBSERVE_TIMEOUT_SECONDS = 2.0
DRAIN_POLL_SECONDS = 0.1

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Copies: what a caller holds does not change under it."""

    generation: int
    wanted: tuple[Pool, ...]
    members: tuple[Member, ...]
    adapters: tuple[Adapter, ...]


class PoolManager:
    """Holds the workers of one service. Level-based: each round starts from what is there.

    They outlive it, unless it ends them: :meth:`take_over` finds those of an earlier manager. What
    is there is left as it is until somebody says for the first time what to want.
    """

    def __init__(
        self,
        settings: ManagerSettings,
        launcher: Launcher,
        redis: "Redis",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._launcher = launcher
        self._redis = redis
        self._directory = Directory(redis, settings.service)
        self._clock = clock
        self._claim = Claim(redis, settings.service, settings.worker_prefix, settings.manager_id)
        self._is_told = False
        self._wanted: tuple[Pool, ...] = ()
        self._adapters: tuple[Adapter, ...] = ()
        self._generation = 0
        self._members: dict[WorkerId, Member] = {}
        self._newest: Incarnation | None = None
        self._woken = asyncio.Event()
        self._has_ended = False

    def apply(
        self, generation: int, pools: Sequence[Pool], adapters: Sequence[Adapter] = ()
    ) -> None:
        """Want *pools* from now on, and *adapters* on all their workers.

        Raises:
            InvalidPoolError: they cannot be; what was wanted before stays.
        """
        if generation < self._generation:
            raise InvalidPoolError(f"generation {generation} is older than {self._generation}")
        validate(pools, self._wanted if self._is_told else self._adopted_pools())
        validate_adapters(adapters, pools)
        self._is_told = True
        self._generation = generation
        self._wanted = tuple(pools)
        self._adapters = tuple(adapters)
        self._woken.set()

    @property
    def wants_none(self) -> bool:
        """Tell whether it was told to want no workers."""
        return self._is_told and not any(pool.replicas for pool in self._wanted)

    def drain(self, worker_id: WorkerId, limit_seconds: float) -> None:
        """End one worker when it has finished what it has; the plan replaces it.

        Raises:
            UnknownWorkerError: there is none of this id.
        """
        member = self._members.get(worker_id)
        if member is None:
            raise UnknownWorkerError(f"no worker {worker_id}")
        if member.phase is not Phase.DRAINING:
            self._begin(member, self._drain(member, limit_seconds))

    def snapshot(self) -> Snapshot:
        members = sorted(self._members.values(), key=lambda member: member.worker_id)
        copies = tuple(replace(member) for member in members)
        return Snapshot(self._generation, self._wanted, copies, self._adapters)

    async def drain_all(self, limit_seconds: float) -> None:
        """Have all workers finish what they have, and end; or give up at the limit, or as
        :meth:`run` ends."""
        self._is_told = True
        self._wanted = ()
        self._woken.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_seconds):
                while self._members and not self._has_ended:  # noqa: ASYNC110 by run()
                    await asyncio.sleep(DRAIN_POLL_SECONDS)

    async def take_over(self) -> None:
        """Hold the workers that an earlier manager left. It is to be done before anybody is told
        what is there."""
        await self._claim.make()
        for description, handle in await self._launcher.adopt():
            member = adopted(description, handle, self._clock())
            self._members[member.worker_id] = member
            self._know(member.incarnation)
            if member.phase is Phase.PENDING:
                self._begin(member, self._wait_for_place(member))
            elif description.draining:
                self._begin(member, self._drain(member, self._settings.drain_limit_seconds))
        if self._members:
            _log.info("took over %d workers", len(self._members))

    async def run(self) -> None:
        """Manage until cancelled; then the workers are left as they are.

        Raises:
            SupersededError: another manager has taken them over.
        """
        try:
            while True:
                self._woken.clear()
                await asyncio.gather(self._observe(), self._claim.check())
                if self._is_told:
                    actions = self._plan()
                    await self._learn_fences(actions)
                    for action in actions:
                        self._act(action)
                    self._adapt()
                try:
                    async with asyncio.timeout(INTERVAL_SECONDS):
                        await self._woken.wait()
                except TimeoutError:
                    pass
        finally:
            self._has_ended = True
            await self._let_go()

    async def end_all(self) -> None:
        """End all workers at once, after :meth:`run` has ended."""
        members = list(self._members.values())
        await asyncio.gather(*(self._stop(member) for member in members), return_exceptions=True)

    async def leave_all(self) -> None:
        """Leave all workers to the next manager, after :meth:`run` has ended.

        One that has not started is ended: if no manager came, it would wait for ever.
        """
        waiting = [member for member in self._members.values() if not member.node]
        await asyncio.gather(*(self._stop(member) for member in waiting), return_exceptions=True)
        _log.info("left %d workers", len(self._members) - len(waiting))

    def _adopted_pools(self) -> list[Pool]:
        members = self._members.values()
        return [member.pool for member in members if member.phase is not Phase.DRAINING]

    async def _observe(self) -> None:
        launched = [member for member in self._members.values() if member.handle is not None]
        await asyncio.gather(*(self._look_at(member) for member in launched))

    async def _look_at(self, member: Member) -> None:
        handle = member.handle
        if handle is None or member.phase is Phase.PENDING or member.process.ended:
            return
        limit_seconds = self._settings.start_limit_seconds
        if member.phase is Phase.STARTING and self._clock() - member.since > limit_seconds:
            await self._bury(member, f"not ready within {limit_seconds:g} s: {member.message}")
            return
        if not member.node:
            return  # its actor is not there yet to be asked
        try:
            async with asyncio.timeout(OBSERVE_TIMEOUT_SECONDS):
                state = await handle.state()
        except LostWorkerError as error:
            await self._bury(member, str(error))
            return
        except (TimeoutError, EngineError) as error:
            if self._clock() - member.answered_at > self._settings.silence_limit_seconds:
                await self._bury(member, f"its actor does not answer: {error}".rstrip(": "))
            elif not isinstance(error, TimeoutError):
                _log.warning("%s cannot be looked at: %s", member.worker_id, error)
            return
        was = member.phase
        member.see(state, self._clock())
        if member.phase is not was:
            _log.info("%s is %s: %s", member.worker_id, member.phase, member.message)
            if member.phase is Phase.DEAD:
                await self._bury(member, member.message)

    async def _bury(self, member: Member, message: str) -> None:
        """Fence a dead worker: its entry goes before a new incarnation comes. Then give its place
        back, whatever is under way on it, unless somebody begins to drain it meanwhile."""
        if member.phase is not Phase.DEAD:
            _log.warning("%s is dead: %s", member.worker_id, message)
            member.die(message, self._clock())
        farewell = Gone(worker_id=member.worker_id, incarnation=member.incarnation)
        await withdraw(self._redis, self._settings.service, farewell)
        if member.phase is not Phase.DRAINING:
            self._begin(member, self._stop(member))

    def _plan(self) -> list[Action]:
        observed = [member.observed() for member in self._members.values()]
        return plan(self._wanted, observed, self._settings.worker_prefix, self._clock())

    async def _learn_fences(self, actions: Sequence[Action]) -> None:
        """Know what of workers that are to start is in Redis, in the membership and in the block
        directory, which may remember longer: what is not newer is refused there, and an earlier
        manager's clock may have been ahead. Redis being away is no error."""
        starting = [action.worker_id for action in actions if isinstance(action, Start)]
        if not starting:
            return
        try:
            found = await read_incarnations(self._redis, self._settings.service, starting)
            found += await self._directory.incarnations(starting)
        except REDIS_IS_AWAY:
            return
        for incarnation in found:
            self._know(incarnation)

    def _know(self, incarnation: Incarnation) -> None:
        """Have all later incarnations be greater."""
        self._newest = max(self._newest or incarnation, incarnation)

    def _act(self, action: Action) -> None:
        member = self._members.get(action.worker_id)
        is_leaving = isinstance(action, Drain | Remove)
        if member is not None and member.busy is not None and not is_leaving:
            return
        match action:
            case Start():
                self._start(action, member)
            case ChangeRole(pool=pool) if member is not None:
                self._begin(member, self._change_role(member, pool))
            case StandBy(standby=standby) if member is not None:
                self._begin(member, self._stand_by(member, standby))
            case Drain() if member is not None:
                self._begin(member, self._drain(member, self._settings.drain_limit_seconds))
            case Remove() if member is not None:
                self._begin(member, self._remove(member))

    def _start(self, action: Start, dead: Member | None) -> None:
        now = self._clock()
        self._newest = new_incarnation(self._newest)
        member = Member(
            action.worker_id,
            action.pool,
            self._newest,
            since=now,
            standby=action.pool.standby,
        )
        if dead is not None:
            member.failure_count = dead.failure_count
            member.restart_count = dead.restart_count + 1
        self._members[action.worker_id] = member
        settings = worker_settings(self._settings, member)
        member.handle = self._launcher.launch(settings, action.pool)
        self._begin(member, self._wait_for_place(member))

    async def _wait_for_place(self, member: Member) -> None:
        assert member.handle is not None

        def placed() -> None:
            member.enter(Phase.STARTING, "waiting for its actor", self._clock())

        try:
            member.node = await member.handle.start(placed)
        except EngineError as error:
            member.die(str(error), self._clock())
            await self._stop(member)
            return
        member.answered_at = self._clock()
        member.enter(Phase.STARTING, "starting", self._clock())

    async def _change_role(self, member: Member, pool: Pool) -> None:
        assert member.handle is not None
        try:
            await member.handle.change_role(pool.role)
        except EngineError as error:
            # One that cannot change is replaced: the plan starts the role anew.
            _log.warning("%s does not change its role: %s", member.worker_id, error)
            await self._drain(member, self._settings.drain_limit_seconds)
            return
        member.pool = pool

    async def _stand_by(self, member: Member, standby: bool) -> None:
        assert member.handle is not None
        try:
            await member.handle.stand_by(standby)
        except EngineError as error:
            _log.warning("%s does not change its standby: %s", member.worker_id, error)
            await asyncio.sleep(INTERVAL_SECONDS)  # the plan tries again when this has ended
            return
        member.standby = standby
        _log.info("%s is %s", member.worker_id, "on standby" if standby else "active")

    def _adapt(self) -> None:
        """Begin the next change of adapters of each worker that is up and has none under way."""
        for member in self._members.values():
            if member.phase is not Phase.READY or member.adapting is not None:
                continue
            step = next_step(self._adapters, member.adapters, self._clock())
            if step is not None:
                task = asyncio.create_task(self._change_adapter(member, step))
                member.adapting = task
                task.add_done_callback(functools.partial(self._adapted, member))

    def _adapted(self, member: Member, task: asyncio.Task[None]) -> None:
        member.adapting = None
        self._woken.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s: adapter failed", member.worker_id, exc_info=error)

    async def _change_adapter(self, member: Member, step: Load | Unload) -> None:
        assert member.handle is not None
        match step:
            case Load(adapter):
                before = member.adapters.get(adapter.name)
                if before is None or before.source != adapter.source:
                    before = AdapterState(adapter.source)
                try:
                    await member.handle.load_adapter(adapter.name, adapter.source)
                    after = AdapterState(adapter.source, loaded=True)
                except EngineError as error:
                    _log.warning("%s has no %s: %s", member.worker_id, adapter.name, error)
                    after = before.failed(str(error), self._clock())
                member.adapters = {**member.adapters, adapter.name: after}
            case Unload(name):
                others = {n: state for n, state in member.adapters.items() if n != name}
                try:
                    await member.handle.unload_adapter(name)
                except EngineError as error:
                    _log.warning("%s keeps %s: %s", member.worker_id, name, error)
                    others[name] = member.adapters[name].failed(str(error), self._clock())
                member.adapters = others

    async def _drain(self, member: Member, limit_seconds: float) -> None:
        was_ready = member.phase is Phase.READY
        member.enter(Phase.DRAINING, "finishing what it has", self._clock())
        try:
            if was_ready and member.handle is not None:
                await member.handle.drain(limit_seconds)
        except EngineError as error:
            _log.warning("%s ends without draining: %s", member.worker_id, error)
        await self._remove(member)  # not when cancelled: the next manager goes on with it

    async def _remove(self, member: Member) -> None:
        member.enter(Phase.DRAINING, "ending", self._clock())
        await self._stop(member)
        if self._members.get(member.worker_id) is member:
            del self._members[member.worker_id]

    async def _stop(self, member: Member) -> None:
        if member.adapting is not None:
            member.adapting.cancel()
        handle, member.handle = member.handle, None
        if handle is not None:
            await handle.stop(self._settings.stop_limit_seconds)

    def _begin(self, member: Member, action: Coroutine[Any, Any, None]) -> None:
        """Run one action on a worker; the loop goes on, and takes it up again afterwards.

        An action that is under way is given up for it: only one that ends the worker comes then.
        """
        if member.busy is not None:
            member.busy.cancel()
        task = asyncio.create_task(action)
        member.busy = task

        def finished(task: asyncio.Task[None]) -> None:
            if member.busy is task:
                member.busy = None
            self._woken.set()
            if not task.cancelled() and (error := task.exception()) is not None:
                _log.error("%s: action failed", member.worker_id, exc_info=error)
                if not (member.node or isinstance(error, SupersededError)):
                    self._begin(member, self._bury(member, f"cannot start it: {error!r}"))

        task.add_done_callback(finished)

    async def _let_go(self) -> None:
        """End what is under way on any worker."""
        members = self._members.values()
        tasks = [task for m in members for task in (m.busy, m.adapting) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
