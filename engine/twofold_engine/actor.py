"""A worker's process as a Ray actor: Ray finds it a place, and ends it with its node."""

import dataclasses
import functools
import os
import socket
import sys
from pathlib import Path
from typing import BinaryIO, Literal

from twofold_cluster.identity import Role
from twofold_engine.settings import WorkerSettings, to_argv
from twofold_engine.simulated import MODULE, feed_directory_beside, sim_argv
from twofold_engine.supervising import ProcessState, WorkerProcess

MODULE_BY_ROLE = {
    Role.PREFILL: "twofold_prefill_worker",
    Role.DECODE: "twofold_decode_worker",
    Role.BOTH: "twofold_decode_worker",
}

NODE_ENV = "TWOFOLD_NODE"
ZONE_ENV = "TWOFOLD_ZONE"
ZONE_LABEL = "ray.io/availability-zone"

EngineKind = Literal["vllm", "sim"]


class EngineActor:
    """Thin on purpose: what can fail is in the process, what is decided in the pool manager.

    The end of the actor, by Ray or by a crash, ends the process: the kernel sees to it.
    """

    def __init__(
        self, settings: WorkerSettings, log_dir: str, host: str | None, kind: EngineKind
    ) -> None:
        """Prepare the worker at *host*, or at the address of the node that Ray chose.

        The node's own environment says where it stands: ``TWOFOLD_NODE`` and ``TWOFOLD_ZONE``.
        """
        path = Path(log_dir)
        path.mkdir(parents=True, exist_ok=True)
        settings = dataclasses.replace(
            settings,
            host=host or _node_address(),
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

    async def start(self) -> str:
        """Return the name of the machine: in Kubernetes the pod's."""
        await self._process.start()
        return socket.gethostname()

    async def state(self) -> ProcessState:
        return self._process.state

    async def drain(self, limit_seconds: float) -> None:
        await self._process.drain(limit_seconds)

    async def stand_by(self, standby: bool) -> None:
        await self._process.stand_by(standby)

    async def load_adapter(self, name: str, source: str) -> None:
        await self._process.load_adapter(name, source)

    async def unload_adapter(self, name: str) -> None:
        await self._process.unload_adapter(name)

    async def change_role(self, role: Role) -> None:
        await self._process.change_role(role)

    async def stop(self, limit_seconds: float) -> None:
        await self._process.stop(limit_seconds)


def _echo() -> BinaryIO | None:
    """Return this process's own output where it is the container's; else Ray has it in a file."""
    return sys.stdout.buffer if os.environ.get("RAY_LOG_TO_STDERR") == "1" else None


def _node_address() -> str:
    import ray

    address: str = ray.util.get_node_ip_address()
    return address


def _zone_label() -> str:
    import ray

    labels: dict[str, str] = ray.get_runtime_context().get_node_labels()
    return labels.get(ZONE_LABEL, "")
