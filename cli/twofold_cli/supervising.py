"""Keep the parts of a local cluster alive: a Valkey server, a pool manager and a router."""

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable

import msgspec

from twofold_cli import commands, probing
from twofold_cli.api_key import wants_keys
from twofold_cli.assessing import assess
from twofold_cli.census import Census
from twofold_cli.errors import CannotStartError
from twofold_cli.following import PoolsFollower
from twofold_cli.processes import adopt_orphans, identify
from twofold_cli.restarting import RestartedChild
from twofold_cli.settings import Settings
from twofold_cli.state import (
    ClusterPhase,
    ClusterState,
    ComponentState,
    Phase,
    StateDirectory,
    WorkerState,
)
from twofold_engine.environment import free_port

CENSUS_SECONDS = 1.0

PUBLISH_SECONDS = 0.1
"""The state is written at most this often."""

STARTING_PROBE_SECONDS = 0.2
STEADY_PROBE_SECONDS = 1.0

_log = logging.getLogger(__name__)


class Supervisor:
    """Owns the children of one local cluster, and alone writes its state.

    However ``run`` ends, no process below this one lives on, and no shared memory that they had.
    """

    def __init__(
        self,
        settings: Settings,
        directory: StateDirectory,
        *,
        on_change: Callable[[ClusterState], None] = lambda state: None,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._on_change = on_change
        self._changed = asyncio.Event()
        self._hurry = asyncio.Event()
        self._stop = asyncio.Event()
        self._was_ready = False
        self._census = Census()
        redis_port = free_port(commands.LOOPBACK)
        self._state = _first_state(settings, redis_port, free_port(commands.LOOPBACK))
        redis_url, grpc_address = self._state.redis_url, self._state.grpc_address
        self._valkey = self._child(
            "valkey", "valkey", commands.valkey(settings, redis_port, directory.path)
        )
        self._pools = self._child(
            "pool manager",
            "pools",
            commands.pools(settings, redis_url, grpc_address, directory.logs),
        )
        self._router = self._child("router", "router", commands.router(settings, redis_url))
        self._children = (self._valkey, self._pools, self._router)
        self._follower = PoolsFollower(
            grpc_address,
            settings,
            life=lambda: self._pools.life,
            on_answer=lambda: self._pools.set_phase(Phase.READY),
            on_silence=lambda: self._pools.set_phase(Phase.STARTING, "does not answer"),
            on_refusal=lambda why: self._fail(f"the pool manager refuses: {why}"),
            on_workers=self._set_workers,
        )

    def stop(self) -> None:
        """End the cluster; asked a second time, without any grace."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def run(self) -> None:
        """Run the cluster until ``stop``.

        Raises:
            CannotStartError: it never became ready and will not.
        """
        adopt_orphans()
        self._publish()
        try:
            async with asyncio.TaskGroup() as tasks:
                followers = [
                    tasks.create_task(self._publish_changes()),
                    tasks.create_task(self._take_census()),
                    tasks.create_task(self._start_in_order(tasks)),
                    tasks.create_task(self._watch_for_stall()),
                ]
                await self._stop.wait()
                await self._stop_children()
                for follower in followers:
                    follower.cancel()
        finally:
            self._sweep()
        if self._state.phase is ClusterPhase.FAILED:
            raise CannotStartError(self._state.reason)

    async def _start_in_order(self, tasks: asyncio.TaskGroup) -> None:
        # The children's own tasks end by themselves once they are told to stop.
        tasks.create_task(self._valkey.run())
        redis_url, endpoint = self._state.redis_url, self._state.endpoint
        await self._probe_once(self._valkey, lambda: probing.valkey_answers(redis_url))
        if self._stop.is_set():
            return
        tasks.create_task(self._pools.run())
        tasks.create_task(self._router.run())
        async with asyncio.TaskGroup() as followers:
            followers.create_task(self._follower.run())
            followers.create_task(
                self._probe(self._valkey, lambda: probing.valkey_answers(redis_url))
            )
            followers.create_task(self._probe(self._router, lambda: self._router_answers(endpoint)))

    async def _probe_once(
        self, child: RestartedChild, answers: Callable[[], Awaitable[bool]]
    ) -> None:
        while not (await answers() and child.running):  # noqa: ASYNC110  # asked, not told
            await asyncio.sleep(STARTING_PROBE_SECONDS)
        child.set_phase(Phase.READY)

    async def _probe(self, child: RestartedChild, answers: Callable[[], Awaitable[bool]]) -> None:
        while True:
            life = child.life
            answered = await answers()
            if child.life == life:
                child.set_phase(Phase.READY if answered else Phase.STARTING)
            ready = child.state.phase is Phase.READY
            await asyncio.sleep(STEADY_PROBE_SECONDS if ready else STARTING_PROBE_SECONDS)

    async def _router_answers(self, endpoint: str) -> bool:
        """Ask the router; one that is about to be called ready has to have heard of all roles, so
        that the first request is served as all others."""
        starting = self._router.state.phase is not Phase.READY
        return await probing.router_is_ready(endpoint, complete=starting)

    def _child(self, name: str, log: str, command: list[str]) -> RestartedChild:
        return RestartedChild(
            name,
            command,
            self._directory.log(log),
            environment={commands.MARK_ENV: self._state.mark},
            on_change=self._changed.set,
        )

    def _set_workers(self, workers: tuple[WorkerState, ...]) -> None:
        if workers != self._state.workers:
            self._state = msgspec.structs.replace(self._state, workers=workers)
            self._changed.set()

    async def _publish_changes(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._judge()
            self._publish()
            await asyncio.sleep(PUBLISH_SECONDS)

    def _judge(self) -> None:
        parts = self._parts()
        self._state = msgspec.structs.replace(self._state, components=parts)
        if not self._pools.running:
            # Workers end with their manager: what it said of them last is no longer so.
            self._set_workers(())
        if self._stop.is_set():
            return
        verdict = assess(self._settings, parts, self._state.workers, was_ready=self._was_ready)
        if verdict.phase is not self._state.phase:
            _log.info("cluster", extra={"phase": verdict.phase, "reason": verdict.reason})
        self._was_ready |= verdict.phase is ClusterPhase.READY
        self._enter(verdict.phase, verdict.reason)
        if verdict.phase is ClusterPhase.FAILED:
            self._stop.set()

    def _fail(self, reason: str) -> None:
        if self._was_ready:  # then it serves, and is repaired
            _log.error("not failing", extra={"reason": reason})
            return
        self._enter(ClusterPhase.FAILED, reason)
        self._stop.set()

    def _enter(self, phase: ClusterPhase, reason: str) -> None:
        self._state = msgspec.structs.replace(self._state, phase=phase, reason=reason)

    def _publish(self) -> None:
        try:
            self._directory.write(self._state)
        except OSError as error:  # a full disk must not end what is being served
            _log.warning("cannot write the state", extra={"error": str(error)})
        self._on_change(self._state)

    async def _take_census(self) -> None:
        while True:
            self._census.take(own=[part.process.pid for part in self._parts() if part.process])
            for child in self._children:
                child.count_descendants()
            self._record_census()
            await asyncio.sleep(CENSUS_SECONDS)

    def _record_census(self) -> None:
        after = msgspec.structs.replace(
            self._state,
            processes=self._census.processes,
            shared_memory=tuple(sorted(self._census.shared_memory)),
        )
        if after != self._state:
            self._state = after
            self._changed.set()

    def _parts(self) -> tuple[ComponentState, ...]:
        return tuple(child.state for child in self._children)

    async def _watch_for_stall(self) -> None:
        """Fail a start in which nothing has changed for too long."""
        limit_seconds = self._settings.stall_limit_seconds
        seen: object = None
        changed_at = time.monotonic()
        while not self._was_ready and time.monotonic() - changed_at < limit_seconds:
            shown = (self._parts(), self._state.workers)
            if shown != seen:
                seen, changed_at = shown, time.monotonic()
            await asyncio.sleep(STEADY_PROBE_SECONDS)
        if not self._was_ready:
            self._fail(f"nothing has changed for {limit_seconds:.0f} s")

    async def _stop_children(self) -> None:
        if self._state.phase is not ClusterPhase.FAILED:
            self._enter(ClusterPhase.STOPPING, "")
        self._census.take(own=[part.process.pid for part in self._parts() if part.process])
        self._census.take_memory()
        self._record_census()
        self._publish()
        settings = self._settings
        await self._router.stop(settings.router_grace_seconds, self._hurry)
        await self._pools.stop(settings.pools_grace_seconds, self._hurry)
        await self._valkey.stop(settings.valkey_grace_seconds, self._hurry)

    def _sweep(self) -> None:
        """Leave nothing: no process, no shared memory, and no state but that of a failure."""
        self._census.sweep()
        self._record_census()
        if self._state.phase is ClusterPhase.FAILED:
            self._publish()
        else:
            self._directory.remove()


def _first_state(settings: Settings, redis_port: int, grpc_port: int) -> ClusterState:
    process = identify(os.getpid())
    assert process is not None
    return ClusterState(
        supervisor=process,
        mark=secrets.token_hex(8),
        service=settings.service,
        model=settings.model,
        served_name=settings.served_name,
        host=settings.host,
        port=settings.port,
        redis_url=f"redis://{commands.LOOPBACK}:{redis_port}",
        grpc_address=f"{commands.LOOPBACK}:{grpc_port}",
        started_at=time.time(),
        wants_keys=wants_keys(settings.router_args),
    )
