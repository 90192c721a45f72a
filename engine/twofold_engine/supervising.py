"""One worker's process: started, watched, stopped.

The process is vLLM's API server, which starts the engine's own. Why it is not the Ray actor
itself: docs/decisions/002-engine-in-a-child-process.md.
"""

import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp
import msgspec

from twofold_cluster.identity import Role
from twofold_engine import adapters, steering
from twofold_engine.draining.addresses import remove_address, write_address
from twofold_engine.events import Event, Step
from twofold_engine.log_files import LogFile
from twofold_engine.pipes import read_line, reading
from twofold_engine.settings import REDIS_ENV, WorkerSettings, to_argv

LOG_TAIL_LINES = 200
ORPHAN_GRACE_SECONDS = 5.0
"""How long the kernel may take to end the engine's processes after their server; meanwhile
Python's resource tracker, which is one of them, removes their shared memory."""

LAST_WORDS_SECONDS = 2.0
"""How long a process that has ended is still read from; and for what ran beside it to end."""

_log = logging.getLogger(__name__)

# vLLM's lines that mean something to who waits for an engine.
_MILESTONES = {
    "Starting to load model": "loading weights",
    "Loading weights took": "weights loaded",
    "KV cache size": "allocating the KV cache",
}
_CAUSE = re.compile(r"(?:^|\s)(\w*(?:Error|Exception): .+)")


@dataclass(frozen=True, slots=True)
class ProcessState:
    """``message`` is for a person: what the process does now, or why it ended; ``warning``: what is
    not as it was asked for. ``ended`` is True once nothing of it is left."""

    message: str = "starting"
    step: Step | None = None
    address: str = ""
    role: Role | None = None
    pid: int = 0
    warning: str = ""
    ended: bool = False


class WorkerProcess:
    """Owns one worker's process from :meth:`start` until :meth:`stop`.

    It runs *module* with the options that *argv_of* makes of its settings, and *beside*, which is
    told the worker's address, from its readiness until its end. In *log_dir* are what it writes,
    which is also written to *echo*, and its address, for who drains this machine.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        module: str,
        log_dir: Path,
        argv_of: Callable[[WorkerSettings], list[str]] = to_argv,
        beside: Callable[[str], Coroutine[Any, Any, None]] | None = None,
        echo: BinaryIO | None = None,
    ) -> None:
        self._settings = settings
        self._module = module
        self._argv_of = argv_of
        self._beside = beside
        self._companion: asyncio.Task[None] | None = None
        self._log_dir = log_dir
        self._echo = echo
        self._state = ProcessState()
        self._tail: deque[str] = deque(maxlen=LOG_TAIL_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def state(self) -> ProcessState:
        return self._state

    async def start(self) -> None:
        """Start the process; its way to readiness shows in :attr:`state`."""
        events_fd, events_end = os.pipe()
        log_fd, log_end = os.pipe()
        settings = replace(self._settings, events_fd=events_end, parent_pid=os.getpid())
        environment = dict(os.environ)
        environment.pop(REDIS_ENV, None)
        if settings.redis is not None:
            environment[REDIS_ENV] = settings.redis
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self._module,
                *self._argv_of(settings),
                pass_fds=(events_end,),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                # Not asyncio's own pipe: with that, the end of the process would not be seen
                # before the end of all that inherited it.
                stdout=log_end,
                stderr=log_end,
                start_new_session=True,
            )
        except BaseException:
            os.close(events_fd)
            os.close(log_fd)
            raise
        finally:
            os.close(events_end)
            os.close(log_end)
        self._state = replace(self._state, pid=self._process.pid)
        self._watching = asyncio.create_task(self._watch(self._process, events_fd, log_fd))

    async def drain(self, limit_seconds: float) -> None:
        """Have the process refuse new requests, and wait until it has none, or for the limit.

        Raises:
            EngineError: it does not answer.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_seconds):
                await steering.drain(self._state.address)

    async def change_role(self, role: Role) -> None:
        """Have the process take new requests in *role*, its engine untouched.

        Raises:
            EngineError: it does not answer, or does not offer the role.
        """
        await steering.steer(self._state.address, "role", {"role": role})
        self._settings = replace(self._settings, role=role)
        self._state = replace(self._state, role=role)

    async def stand_by(self, standby: bool) -> None:
        """Have the process announce whether it takes new requests.

        Raises:
            EngineError: it does not answer, or the membership does not have it yet.
        """
        await steering.steer(self._state.address, "standby", {"standby": standby})

    async def load_adapter(self, name: str, source: str) -> None:
        """Have the engine serve the LoRA adapter *source* under *name*. The caller bounds the wait.

        Raises:
            EngineError: it does not.
        """
        async with aiohttp.ClientSession() as session:
            await adapters.load(session, self._state.address, name, source)

    async def unload_adapter(self, name: str) -> None:
        """Have the engine no longer serve the adapter *name*. The caller bounds the wait.

        Raises:
            EngineError: it still may.
        """
        async with aiohttp.ClientSession() as session:
            await adapters.unload(session, self._state.address, name)

    async def stop(self, limit_seconds: float) -> None:
        """End the process: asked, then forced when it has not ended within the limit."""
        if self._process is None or self._watching is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        done, _ = await asyncio.wait([self._watching], timeout=limit_seconds)
        if not done:
            _log.warning("forced to end", extra={"worker": self._settings.worker_id})
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._watching

    async def _watch(
        self, process: asyncio.subprocess.Process, events_fd: int, log_fd: int
    ) -> None:
        """See the process to its end. What goes wrong with its pipes does not hide that end."""
        readers = [
            asyncio.create_task(self._read_log(log_fd)),
            asyncio.create_task(self._read_events(events_fd)),
        ]
        status = await process.wait()
        remove_address(self._log_dir, self._settings.worker_id)
        await _end_group(process.pid)
        # Whoever else may hold the pipes is none of ours.
        _, unfinished = await asyncio.wait(readers, timeout=LAST_WORDS_SECONDS)
        for reader in unfinished:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        await self._end_companion()
        self._state = replace(self._state, message=self._cause(status), pid=0, ended=True)

    async def _end_companion(self) -> None:
        if self._companion is not None:
            self._companion.cancel()
            await asyncio.wait([self._companion], timeout=LAST_WORDS_SECONDS)

    async def _read_log(self, log_fd: int) -> None:
        name = f"{self._settings.worker_id}.log"
        with LogFile(self._log_dir / name, echo=self._echo) as log:
            async with reading(log_fd) as reader:
                while raw := await read_line(reader):
                    line = raw.decode(errors="replace")
                    self._tail.append(line.rstrip())
                    self._notice(line)
                    with contextlib.suppress(OSError):  # a full disk: the pipe must flow on
                        log.write(raw)

    async def _read_events(self, events_fd: int) -> None:
        async with reading(events_fd) as reader:
            while line := await reader.readline():
                try:
                    self._take(msgspec.json.decode(line, type=Event))
                except msgspec.DecodeError as error:
                    _log.warning("cannot read an event: %s", error)

    def _take(self, event: Event) -> None:
        self._state = replace(
            self._state,
            message=str(event.step),
            step=event.step,
            address=event.address or self._state.address,
            role=event.role or self._state.role,
            warning=event.warning or self._state.warning,
        )
        if event.step is Step.READY:
            self._say_where()
        if event.step is Step.READY and self._beside is not None and self._companion is None:
            self._companion = asyncio.create_task(self._beside(self._state.address))

    def _say_where(self) -> None:
        try:
            write_address(self._log_dir, self._settings.worker_id, self._state.address)
        except OSError as error:  # a full disk: it serves, and will end undrained with its pod
            _log.warning("cannot say where it is: %s", error)

    def _notice(self, line: str) -> None:
        if self._state.step is not Step.STARTING:
            return
        for mark, message in _MILESTONES.items():
            if mark in line:
                self._state = replace(self._state, message=message)

    def _cause(self, status: int) -> str:
        """Say why the process ended: the first error in its log, which the others follow from."""
        how = f"ended with signal {-status}" if status < 0 else f"ended with status {status}"
        if status > 0:
            for line in self._tail:
                if found := _CAUSE.search(line):
                    return f"{how}: {found.group(1)[:500]}"
        return how


async def _end_group(group_id: int) -> None:
    """Wait until all processes of a group have ended, whose leader has; force what stays."""
    deadline = time.monotonic() + ORPHAN_GRACE_SECONDS
    # Processes that are not our children have no end to wait for.
    while _group_lives(group_id) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group_id, signal.SIGKILL)


def _group_lives(group_id: int) -> bool:
    try:
        os.killpg(group_id, 0)
    except ProcessLookupError:
        return False
    return True
