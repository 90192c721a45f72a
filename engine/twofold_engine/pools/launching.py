"""Where workers run: the manager's edge to Ray."""

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from twofold_cluster.identity import Role, WorkerId
from twofold_engine.actor import EngineActor, EngineKind
from twofold_engine.errors import EngineError, SupersededError
from twofold_engine.pools.actor_names import ActorName
from twofold_engine.pools.adopting import Left, find_left, remove_groups
from twofold_engine.pools.handles import Description, Handle, LostWorkerError
from twofold_engine.pools.settings import ManagerSettings
from twofold_engine.pools.wanting import Pool
from twofold_engine.settings import WorkerSettings
from twofold_engine.supervising import ProcessState

STOP_MARGIN_SECONDS = 5.0
"""What a call to an actor may take beyond the limit that it was given."""

CHANGE_ROLE_LIMIT_SECONDS = 5.0
STAND_BY_LIMIT_SECONDS = 5.0

ADAPTER_LIMIT_SECONDS = 300.0
"""An engine may have to download it."""

ADOPT_LIMIT_SECONDS = 15.0
"""For a worker that has a place to tell what it is. Callers of a new manager wait meanwhile."""

_REFUSALS = (ray.exceptions.RayError, OSError, ValueError)
"""What Ray raises when its head does not answer, or does not take what a worker asks for."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Made:
    """An actor, and what keeps its place; None: it takes nothing that Ray counts."""

    actor: Any
    group: PlacementGroup | None

    def end(self) -> None:
        """End the actor, and what it runs, and give its place back. Blocks while Ray's head is
        away."""
        try:
            ray.kill(self.actor)
        finally:
            if self.group is not None:
                remove_placement_group(self.group)


class RayLauncher:
    """Launches workers as actors in placement groups of one bundle each.

    They are detached: they outlive this process, and the manager that comes after it adopts them.
    On a machine of its own (*one_machine*) they end with this process, as Ray itself does; an
    engine may share cores there, so that it asks Ray for GPUs only, and listens on loopback. All
    have engines of one *kind*.
    """

    def __init__(
        self,
        settings: ManagerSettings,
        log_dir: str,
        *,
        one_machine: bool,
        kind: EngineKind = "vllm",
    ) -> None:
        self._settings = settings
        self._log_dir = log_dir
        self._one_machine = one_machine
        self._kind = kind

    async def adopt(self) -> Sequence[tuple[Description, Handle]]:
        if self._one_machine:
            return []  # its Ray has just begun
        ours = (self._settings.service, self._settings.worker_prefix)
        left = await asyncio.to_thread(find_left, *ours)
        left.sort(key=lambda one: one.name.incarnation)
        told = await asyncio.gather(*(self._ask(one) for one in left))
        newest: dict[WorkerId, tuple[Description, RayHandle, ActorName]] = {}
        for one, description in zip(left, told, strict=True):
            manager = self._settings.manager_id
            handle = RayHandle(manager, adopted=Made(one.actor, one.group))
            if description is None:
                await handle.kill()
                continue
            if (before := newest.get(one.name.worker_id)) is not None:
                _log.warning("%s has a newer life", before[2])
                await before[1].kill()
            newest[one.name.worker_id] = (description, handle, one.name)
        await asyncio.to_thread(remove_groups, *ours, [name for _, _, name in newest.values()])
        return [(description, handle) for description, handle, _ in newest.values()]

    async def _ask(self, one: Left) -> Description | None:
        """Return what the worker says; None if it is no use."""
        if not one.has_place:
            _log.info("%s has no place, and is asked for anew", one.name)
            return None
        try:
            asked = one.actor.adopt.remote(self._settings.manager_id)
            description: Description = await _result(asked, ADOPT_LIMIT_SECONDS)
        except EngineError as error:
            _log.warning("%s cannot be taken over: %s", one.name, error)
            return None
        return description

    def launch(self, settings: WorkerSettings, pool: Pool) -> Handle:
        ask = functools.partial(self._ask_for, settings, pool)
        return RayHandle(self._settings.manager_id, ask=ask)

    def _ask_for(self, settings: WorkerSettings, pool: Pool) -> Made:
        """Have Ray make an actor, in a place of its own. Blocks as long as Ray's head is away."""
        engine, build = pool.engine, pool.build
        bundle = {"CPU": 0.0 if self._one_machine else engine.cpus, "GPU": engine.gpus}
        bundle = {resource: amount for resource, amount in bundle.items() if amount}
        bundle |= build.resources
        name = str(ActorName(settings.service, settings.worker_id, settings.incarnation))
        lifetime = None if self._one_machine else "detached"
        group = (
            placement_group([bundle], strategy="STRICT_PACK", name=name, lifetime=lifetime)
            if bundle
            else None
        )
        options: dict[str, Any] = {
            "name": name,
            "lifetime": lifetime,
            "num_cpus": bundle.get("CPU", 0),
            "num_gpus": bundle.get("GPU", 0),
            "resources": dict(build.resources),
            "max_restarts": 0,
        }
        if group is not None:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group)
        host = "127.0.0.1" if self._one_machine else None
        manager = self._settings.manager_id
        orphan_limit_seconds = None if self._one_machine else self._settings.orphan_limit_seconds
        try:
            remote = ray.remote(EngineActor).options(**options)
            actor = remote.remote(
                settings, self._log_dir, host, self._kind, manager, pool, orphan_limit_seconds
            )
        except BaseException:
            if group is not None:
                remove_placement_group(group)
            raise
        return Made(actor, group)


class RayHandle:
    """An actor as one manager may use it, which each call names.

    What blocks while Ray's head is away is done in threads: the manager has other workers.
    """

    def __init__(
        self,
        manager: str,
        *,
        ask: Callable[[], Made] | None = None,
        adopted: Made | None = None,
    ) -> None:
        """*ask* has Ray make the actor; one that is *adopted* has been made, and answers."""
        self._manager = manager
        self._ask = ask
        self._asking: asyncio.Task[None] | None = None
        self._made = adopted
        self._answers = adopted is not None
        self._killing: asyncio.Task[None] | None = None

    async def start(self, placed: Callable[[], None]) -> str:
        if self._ask is not None and self._asking is None:
            self._asking = asyncio.create_task(self._have_made(self._ask))
            # A thread cannot be cancelled: what it has made is to be ended.
            await asyncio.shield(self._asking)
        ready = asyncio.create_task(self._ready())
        started = asyncio.create_task(_result(self._actor.start.remote(self._manager)))
        try:
            await asyncio.wait([ready, started], return_when=asyncio.FIRST_COMPLETED)
            if not started.done():
                await ready  # an actor whose group is removed waits for ever
                placed()
            node: str = await started
        finally:
            ready.cancel()
            started.cancel()
        self._answers = True
        return node

    @property
    def _actor(self) -> Any:
        assert self._made is not None
        return self._made.actor

    async def _have_made(self, ask: Callable[[], Made]) -> None:
        try:
            self._made = await asyncio.to_thread(ask)
        except _REFUSALS as error:
            raise EngineError(f"Ray does not take it: {error}") from error

    async def _ready(self) -> None:
        """Wait until Ray has made the placement group."""
        assert self._made is not None
        if self._made.group is not None:
            await _result(self._made.group.ready())

    async def state(self) -> ProcessState:
        state: ProcessState = await _result(self._actor.state.remote(self._manager))
        return state

    async def change_role(self, role: Role) -> None:
        changed = self._actor.change_role.remote(self._manager, role)
        await _result(changed, CHANGE_ROLE_LIMIT_SECONDS)

    async def stand_by(self, standby: bool) -> None:
        await _result(self._actor.stand_by.remote(self._manager, standby), STAND_BY_LIMIT_SECONDS)

    async def load_adapter(self, name: str, source: str) -> None:
        loaded = self._actor.load_adapter.remote(self._manager, name, source)
        await _result(loaded, ADAPTER_LIMIT_SECONDS)

    async def unload_adapter(self, name: str) -> None:
        await _result(self._actor.unload_adapter.remote(self._manager, name), ADAPTER_LIMIT_SECONDS)

    async def drain(self, limit_seconds: float) -> None:
        await _result(self._actor.drain.remote(self._manager, limit_seconds), limit_seconds)

    async def stop(self, limit_seconds: float) -> None:
        is_ours = True
        try:
            if not self._answers:  # it would when it is there
                return
            await _result(self._actor.stop.remote(self._manager, limit_seconds), limit_seconds)
        except SupersededError:
            is_ours = False
            raise
        except EngineError as error:
            # Killing the actor ends its process too.
            _log.warning("the actor is killed: %s", error)
        finally:
            if is_ours:
                await self.kill()

    async def kill(self) -> None:
        """End the actor, and what it runs, and give its place back; also if this is cancelled."""
        if self._killing is None:
            self._killing = asyncio.create_task(self._kill())
        await asyncio.shield(self._killing)

    async def _kill(self) -> None:
        if self._asking is not None:
            await asyncio.wait([self._asking])
        if self._made is None:
            return
        try:
            await asyncio.to_thread(self._made.end)
        except _REFUSALS as error:
            _log.error("an actor may be left, and its place be kept: %s", error)


async def _result(reference: Any, limit_seconds: float | None = None) -> Any:
    """Await what an actor's method returns. Without a limit the caller bounds the wait."""
    bound = None if limit_seconds is None else limit_seconds + STOP_MARGIN_SECONDS
    try:
        async with asyncio.timeout(bound):
            return await reference
    except TimeoutError as error:
        if bound is None:
            raise
        raise EngineError(f"the actor did not answer within {bound:g} s") from error
    except ray.exceptions.ActorUnavailableError as error:
        raise EngineError(str(error)) from error  # its node cannot be reached just now
    except ray.exceptions.RayActorError as error:
        raise LostWorkerError(str(error).splitlines()[0]) from error
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, SupersededError):
            raise error.cause from error
        raise EngineError(str(error.cause)) from error
    except ray.exceptions.RayError as error:
        raise EngineError(str(error)) from error
