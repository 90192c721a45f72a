"""One child process of the supervisor, started again whenever it ends."""

import asyncio
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from twofold_cli.commands import tied_to_this_process
from twofold_cli.delays import RestartDelays
from twofold_cli.logs import last_lines
from twofold_cli.processes import (
    ProcessId,
    descendants,
    group_members,
    identify,
    is_alive,
    kill_all,
    kill_group,
    send_signal,
)
from twofold_cli.state import ComponentState, Phase

POLL_SECONDS = 0.05
"""How soon an end is noticed. Polling needs no thread and no loop's child watcher, and the death
signal of a child is bound to the thread that started it."""

KILL_WAIT_SECONDS = 5.0

_log = logging.getLogger(__name__)


class RestartedChild:
    """A command that is kept running.

    Invariant: at most one process of it lives. ``life`` counts its processes, so that others see
    whether it is still the one they knew.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str],
        on_change: Callable[[], None],
        delays: RestartDelays | None = None,
    ) -> None:
        self.life = 0
        self.state = ComponentState(name=name, since=time.time())
        self._command = command
        self._log_path = log
        self._environment = os.environ | environment
        self._on_change = on_change
        self._below: set[ProcessId] = set()
        self._delays = delays or RestartDelays()
        self._stopping = asyncio.Event()

    @property
    def running(self) -> bool:
        return self.state.process is not None

    def set_phase(self, phase: Phase, message: str = "") -> None:
        """Say what the running process does; its end is seen here and not told from outside."""
        if self.running:
            self._change(phase, message, self.state.process, self.state.restarts)

    async def run(self) -> None:
        """Keep the command running until ``stop``."""
        while not self._stopping.is_set():
            began_at = time.monotonic()
            with self._log_path.open("ab") as log:
                popen = self._start(log.fileno())
            try:
                code = await _ended(popen)
            finally:
                if popen.returncode is None:  # cancelled: nobody would wait for it any more
                    popen.kill()
                    popen.wait()
            await self._pause(popen.pid, code, time.monotonic() - began_at)

    def count_descendants(self) -> None:
        """Remember who lives below the process, so that they can be found when it is dead."""
        if self.state.process is not None:
            self._below |= set(descendants(self.state.process.pid))
            self._below = {process for process in self._below if is_alive(process)}

    async def stop(self, grace_seconds: float, hurry: asyncio.Event) -> None:
        """End the process: SIGTERM, then after the grace, or in a hurry, SIGKILL to its group."""
        self._stopping.set()
        process = self.state.process
        if process is None:
            return
        send_signal(process, signal.SIGTERM)
        if not await self._ends_within(grace_seconds, hurry):
            _log.warning("killing", extra={"child": self.state.name, "after": grace_seconds})
            kill_group(process)
            await self._ends_within(KILL_WAIT_SECONDS, asyncio.Event())

    def _start(self, log: int) -> "subprocess.Popen[bytes]":
        popen = subprocess.Popen(
            tied_to_this_process(self._command),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
        )
        self.life += 1
        self._change(Phase.STARTING, "", identify(popen.pid), self.life - 1)
        _log.info("started", extra={"child": self.state.name, "pid": popen.pid})
        return popen

    async def _pause(self, pid: int, code: int, lived_seconds: float) -> None:
        name = self.state.name
        self._change(Phase.DEAD, self._epitaph(code), None, self.life - 1)
        self._kill_belongings(pid)
        if self._stopping.is_set():
            _log.info("stopped", extra={"child": name, "code": code})
            return
        delay = self._delays.after(lived_seconds)
        _log.warning("died", extra={"child": name, "code": code, "delay_seconds": delay})
        try:
            async with asyncio.timeout(delay):
                await self._stopping.wait()
        except TimeoutError:
            pass

    def _kill_belongings(self, pid: int) -> None:
        """Kill what the dead process has left: it would keep memory and ports from the next."""
        left = self._below | group_members(pid)
        self._below = set()
        still_there = kill_all(left, wait_seconds=0)
        if still_there:
            _log.warning("killed what it left", extra={"child": self.state.name})

    def _epitaph(self, code: int) -> str:
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        last = last_lines(self._log_path, count=1)
        return f"{how}: {last}" if last else how

    async def _ends_within(self, seconds: float, hurry: asyncio.Event) -> bool:
        deadline = time.monotonic() + seconds
        while self.running and time.monotonic() < deadline and not hurry.is_set():  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        return not self.running

    def _change(self, phase: Phase, message: str, process: ProcessId | None, restarts: int) -> None:
        before = self.state
        after = ComponentState(
            name=before.name,
            phase=phase,
            message=message,
            restarts=restarts,
            process=process,
            since=before.since if phase is before.phase else time.time(),
        )
        if after != before:
            self.state = after
            self._on_change()


async def _ended(popen: "subprocess.Popen[bytes]") -> int:
    while (code := popen.poll()) is None:  # noqa: ASYNC110  # see POLL_SECONDS
        await asyncio.sleep(POLL_SECONDS)
    return code
