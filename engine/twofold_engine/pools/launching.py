"""Where workers run: the manager's edge to Ray."""

import asyncio
import logging
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from twofold_cluster.identity import Role
from twofold_engine.actor import EngineActor, EngineKind
from twofold_engine.errors import EngineError
from twofold_engine.pools.handles import Handle, LostWorkerError
from twofold_engine.pools.wanting import Build
from twofold_engine.settings import WorkerSettings
from twofold_engine.supervising import ProcessState

STOP_MARGIN_SECONDS = 5.0
"""What a call to an actor may take beyond the limit that it was given."""

CHANGE_ROLE_LIMIT_SECONDS = 5.0
STAND_BY_LIMIT_SECONDS = 5.0

ADAPTER_LIMIT_SECONDS = 300.0
"""An engine may have to download it."""

_log = logging.getLogger(__name__)


class RayLauncher:
    """Launches workers as actors in placement groups of one bundle each.

    On a machine of its own (*one_machine*) an engine may share cores: there it asks Ray for GPUs
    only, and listens on loopback. All have engines of one *kind*.
    """

    def __init__(self, log_dir: str, *, one_machine: bool, kind: EngineKind = "vllm") -> None:
        self._log_dir = log_dir
        self._one_machine = one_machine
        self._kind = kind

    def launch(self, settings: WorkerSettings, build: Build) -> Handle:
        engine = build.engine
        bundle = {"CPU": 0.0 if self._one_machine else engine.cpus, "GPU": engine.gpus}
        bundle = {resource: amount for resource, amount in bundle.items() if amount}
        bundle |= build.resources
        group = placement_group([bundle], strategy="STRICT_PACK") if bundle else None
        options: dict[str, Any] = {
            "name": f"{settings.service}/{settings.worker_id}/{settings.incarnation}",
            "num_cpus": bundle.get("CPU", 0),
            "num_gpus": bundle.get("GPU", 0),
            "resources": dict(build.resources),
            "max_restarts": 0,
        }
        if group is not None:
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(group)
        host = "127.0.0.1" if self._one_machine else None
        remote = ray.remote(EngineActor).options(**options)
        actor = remote.remote(settings, self._log_dir, host, self._kind)
        return _RayHandle(actor, group)


class _RayHandle:
    def __init__(self, actor: Any, group: PlacementGroup | None) -> None:
        self._actor = actor
        self._group = group

    async def start(self) -> str:
        node: str = await _result(self._actor.start.remote())
        return node

    async def state(self) -> ProcessState:
        state: ProcessState = await _result(self._actor.state.remote())
        return state

    async def change_role(self, role: Role) -> None:
        await _result(self._actor.change_role.remote(role), CHANGE_ROLE_LIMIT_SECONDS)

    async def stand_by(self, standby: bool) -> None:
        await _result(self._actor.stand_by.remote(standby), STAND_BY_LIMIT_SECONDS)

    async def load_adapter(self, name: str, source: str) -> None:
        await _result(self._actor.load_adapter.remote(name, source), ADAPTER_LIMIT_SECONDS)

    async def unload_adapter(self, name: str) -> None:
        await _result(self._actor.unload_adapter.remote(name), ADAPTER_LIMIT_SECONDS)

    async def drain(self, limit_seconds: float) -> None:
        await _result(self._actor.drain.remote(limit_seconds), limit_seconds)

    async def stop(self, limit_seconds: float) -> None:
        try:
            await _result(self._actor.stop.remote(limit_seconds), limit_seconds)
        except EngineError as error:
            # Killing the actor ends its process too.
            _log.warning("the actor is killed: %s", error)
        finally:
            ray.kill(self._actor)
            if self._group is not None:
                remove_placement_group(self._group)


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
    except ray.exceptions.RayActorError as error:
        raise LostWorkerError(str(error).splitlines()[0]) from error
    except ray.exceptions.RayTaskError as error:
        raise EngineError(str(error.cause)) from error
    except ray.exceptions.RayError as error:
        raise EngineError(str(error)) from error
