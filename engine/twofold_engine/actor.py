"""A worker's process as a Ray actor: Ray finds it a place, and ends it with its node."""

import asyncio
import dataclasses
import functools
import logging
import os
import socket
import sys
import time
from pathlib import Path
from typing import BinaryIO, Literal

from twofold_cluster.identity import Role
from twofold_engine.environment import free_or_any
from twofold_engine.errors import EngineError
from twofold_engine.holding import Hold
from twofold_engine.pools.handles import Description
from twofold_engine.pools.wanting import Pool
from twofold_engine.settings import WorkerSettings, to_argv
from twofold_engine.simulated import MODULE, feed_directory_beside, sim_argv
from twofold_engine.supervising import ProcessState, WorkerProcess

MODULE_BY_ROLE = {
    Role.PREFILL: "twofold_prefill_worker",
    Role.DECODE: "twofold_decode_worker",
    Role.BOTH: "twofold_decode_worker",
}

NODE_ENV = "TWOFOLD_NODE"
POD_ENV = "TWOFOLD_POD"
"""The name of the pod, which the name of its machine need not be."""
ZONE_ENV = "TWOFOLD_ZONE"
PORT_ENV = "TWOFOLD_WORKER_PORT"
"""Where a pod's only worker is to listen, so that a NetworkPolicy can name the port."""

ZONE_LABEL = "ray.io/availability-zone"

ORPHAN_DRAIN_SECONDS = 60.0
ORPHAN_STOP_SECONDS = 15.0

EngineKind = Literal["vllm", "sim"]

_log = logging.getLogger(__name__)


class EngineActor:
    """Thin on purpose: what can fail is in the process, what is decided in the pool manager.

    It obeys one manager, which each call names: the one that adopted it last. When that has been
    silent for too long it ends by itself, since nobody else may. The end of the actor, by Ray or by
    a crash, ends the process: the kernel sees to it.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        log_dir: str,
        host: str | None,
        kind: EngineKind,
        manager: str,
        pool: Pool,
        orphan_limit_seconds: float | None = None,
    ) -> None:
        """Prepare the worker of *pool* at *host*, or at the address of the node that Ray chose.

        The node's own environment says where it stands: ``TWOFOLD_NODE`` and ``TWOFOLD_ZONE``, and
        where it is to listen, if that port is free: ``TWOFOLD_WORKER_PORT``.
        With *orphan_limit_seconds* it must be in a running event loop, as Ray has it.
        """
        path = Path(log_dir)
        path.mkdir(parents=True, exist_ok=True)
        host = host or _node_address()
        settings = dataclasses.replace(
            settings,
            host=host,
            port=free_or_any(host, int(os.environ.get(PORT_ENV) or settings.port)),
            node=os.environ.get(NODE_ENV) or settings.node,
            zone=os.environ.get(ZONE_ENV) or _zone_label() or settings.zone,
        )
        if kind == "sim":
            feed = functools.partial(feed_directory_beside, settings)
            beside = feed if settings.kv_events else None
            self._process = WorkerProcess(settings, MODULE, path, sim_argv, beside, _echo())
        else:
            module = MODULE_BY_ROLE[settings.role]
            self._process = WorkerProcess(settings, module, path, to_argv, echo=_echo())
        self._settings = settings
        self._pool = pool
        self._standby = settings.standby
        self._adapters: dict[str, str] = {}
        self._is_started = self._is_draining = False
        self._hold = Hold(manager, orphan_limit_seconds, time.monotonic())
        if orphan_limit_seconds is not None:
            loop = asyncio.get_running_loop()
            self._watching = loop.create_task(self._end_when_orphaned())  # ends with the actor

    async def adopt(self, manager: str) -> Description:
        """Obey *manager* from now on, and tell it all."""
        self._hold.take(manager, time.monotonic())
        return Description(
            worker_id=self._settings.worker_id,
            incarnation=self._settings.incarnation,
            pool=self._pool,
            role=self._process.state.role or self._settings.role,
            node=_machine(),
            process=self._process.state,
            adapters=dict(self._adapters),
            standby=self._standby,
            started=self._is_started,
            draining=self._is_draining,
        )

    async def start(self, manager: str) -> str:
        """Start what has not been started; return the name of the machine: in Kubernetes the
        pod's."""
        self._check(manager)
        if not self._is_started:
            self._is_started = True
            await self._process.start()
        return _machine()

    async def state(self, manager: str) -> ProcessState:
        self._check(manager)
        return self._process.state

    async def drain(self, manager: str, limit_seconds: float) -> None:
        self._check(manager)
        self._is_draining = True
        await self._process.drain(limit_seconds)

    async def stand_by(self, manager: str, standby: bool) -> None:
        self._check(manager)
        await self._process.stand_by(standby)
        self._standby = standby

    async def load_adapter(self, manager: str, name: str, source: str) -> None:
        self._check(manager)
        await self._process.load_adapter(name, source)
        self._adapters[name] = source

    async def unload_adapter(self, manager: str, name: str) -> None:
        self._check(manager)
        await self._process.unload_adapter(name)
        self._adapters.pop(name, None)

    async def change_role(self, manager: str, role: Role) -> None:
        self._check(manager)
        await self._process.change_role(role)

    async def stop(self, manager: str, limit_seconds: float) -> None:
        self._check(manager)
        await self._process.stop(limit_seconds)

    def _check(self, manager: str) -> None:
        self._hold.check(manager, time.monotonic())

    async def _end_when_orphaned(self) -> None:
        while left_seconds := self._hold.left_seconds(time.monotonic()):  # noqa: ASYNC110 silence
            await asyncio.sleep(left_seconds)
        _log.warning("%s ends: its pool manager is silent", self._settings.worker_id)
        self._is_draining = True
        try:
            await self._process.drain(ORPHAN_DRAIN_SECONDS)
        except EngineError as error:
            _log.warning("%s ends without draining: %s", self._settings.worker_id, error)
        finally:
            await self._process.stop(ORPHAN_STOP_SECONDS)
            _leave_ray()


def _leave_ray() -> None:
    """End this actor, and give back the place that was kept for it."""
    from ray.util import get_current_placement_group, remove_placement_group

    try:
        if (group := get_current_placement_group()) is not None:
            remove_placement_group(group)
    finally:
        os._exit(0)  # to the kernel alone: Ray would have the actor end from one of its own calls


def _echo() -> BinaryIO | None:
    """Return this process's own output where it is the container's; else Ray has it in a file."""
    return sys.stdout.buffer if os.environ.get("RAY_LOG_TO_STDERR") == "1" else None


def _machine() -> str:
    """Return the name of the pod, or where that is not told of the machine."""
    return os.environ.get(POD_ENV) or socket.gethostname()


def _node_address() -> str:
    import ray

    address: str = ray.util.get_node_ip_address()
    return address


def _zone_label() -> str:
    import ray

    labels: dict[str, str] = ray.get_runtime_context().get_node_labels()
    return labels.get(ZONE_LABEL, "")
