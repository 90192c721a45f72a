"""Show the running cluster."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from redis.exceptions import RedisError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from twofold_cli.showing import age, name_of, parts, say
from twofold_cli.state import (
    ClusterPhase,
    ClusterState,
    ComponentState,
    Phase,
    StateDirectory,
    WorkerState,
)
from twofold_cluster.membership import connect, read_workers
from twofold_cluster.worker import Load, Worker

READ_LIMIT_SECONDS = 3.0

EXIT_READY = 0
EXIT_DEGRADED = 1
EXIT_NOT_RUNNING = 3


@dataclass(frozen=True, slots=True)
class Status:
    """``state`` is None when nothing runs. The others have the workers that announce themselves."""

    state: ClusterState | None
    loads: Mapping[str, Load]
    kv_transfer: Mapping[str, str] = field(default_factory=dict)
    """Where they tell of peers and leases; empty: their connector does not."""

    @property
    def exit_code(self) -> int:
        if self.state is None:
            return EXIT_NOT_RUNNING
        return EXIT_READY if self.state.phase is ClusterPhase.READY else EXIT_DEGRADED


def read_status(directory: StateDirectory) -> Status:
    state = directory.running()
    if state is None:
        return Status(None, {})
    workers = asyncio.run(read_announced(state)) or {}
    return Status(
        state,
        {name: worker.load for name, worker in workers.items()},
        {name: worker.kv_transfer for name, worker in workers.items()},
    )


def as_json(status: Status) -> str:
    """Return the status for machines; times are seconds since 1970."""
    state = status.state
    if state is None:
        return msgspec.json.encode({"phase": "not running"}).decode()
    answer: dict[str, Any] = msgspec.to_builtins(state)
    answer["endpoint"] = state.endpoint
    for worker in answer["workers"]:
        load = status.loads.get(worker["worker_id"])
        worker["load"] = None if load is None else msgspec.to_builtins(load)
        worker["kv_transfer"] = status.kv_transfer.get(worker["worker_id"])
    return msgspec.json.encode(answer).decode()


def show_status(status: Status, directory: StateDirectory, console: Console) -> None:
    state = status.state
    if state is None:
        say(console, "no cluster is running; start one with: twofold up")
        return
    reason = f" ({state.reason})" if state.reason else ""
    say(console, f"{state.served_name} is {state.phase} at {state.endpoint}/v1{reason}")
    console.print(_table(state, status.loads))
    for part in parts(state):
        if part.phase is not Phase.READY and part.message:
            say(console, f"{name_of(part)}: {part.message}")
    say(console, f"logs are in {directory.logs}")


async def read_announced(state: ClusterState) -> dict[str, Worker] | None:
    """Return the workers that announce themselves, by id; None while Redis is away, which the
    components show."""
    try:
        async with asyncio.timeout(READ_LIMIT_SECONDS), connect(state.redis_url) as redis:
            workers = await read_workers(redis, state.service)
    except (RedisError, OSError, TimeoutError):
        return None
    return {worker.worker_id: worker for worker in workers}


def _table(state: ClusterState, loads: Mapping[str, Load]) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for name in ("name", "role", "phase", "for", "restarts", "pid", "run+wait", "address"):
        table.add_column(name, no_wrap=True)
    now = time.time()
    addresses = {
        "valkey": state.redis_url,
        "pool manager": state.grpc_address,
        "router": state.endpoint,
    }
    rows = [_component_row(part, addresses.get(part.name, ""), now) for part in state.components]
    rows += [_worker_row(worker, loads.get(worker.worker_id), now) for worker in state.workers]
    for row in rows:
        table.add_row(*map(Text, row))  # as texts: a message is not rich's markup
    return table


def _component_row(part: ComponentState, address: str, now: float) -> tuple[str, ...]:
    return (
        name_of(part),
        "",
        part.phase,
        age(now - part.since),
        str(part.restarts),
        str(part.process.pid) if part.process is not None else "",
        "",
        _without_scheme(address),
    )


def _worker_row(worker: WorkerState, load: Load | None, now: float) -> tuple[str, ...]:
    in_flight = "" if load is None else f"{load.running_count}+{load.waiting_count}"
    return (
        worker.worker_id,
        worker.role,
        worker.phase,
        age(now - worker.since),
        str(worker.restarts),
        str(worker.pid or ""),
        in_flight,
        _without_scheme(worker.address),
    )


def _without_scheme(url: str) -> str:
    return url.rpartition("//")[2]
