"""Start a cluster: in this process, or detached from it."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable

import msgspec
from rich.console import Console

from twofold_cli.banner import banner
from twofold_cli.cleaning import clean_up
from twofold_cli.errors import CannotStartError
from twofold_cli.logs import last_lines, log_to
from twofold_cli.settings import Settings, module_command
from twofold_cli.showing import changes, display, say
from twofold_cli.state import ClusterPhase, ClusterState, StateDirectory
from twofold_cli.supervisor import SETTINGS_FILE, supervise

POLL_SECONDS = 0.1

STOP_LIMIT_SECONDS = 90.0
"""The supervisor's graces together are 70 s."""

LOG_NAMES = ("supervisor", "valkey", "pools", "router")


def up(
    directory: StateDirectory,
    prepare: Callable[[], Settings],
    *,
    detach: bool,
    console: Console,
) -> None:
    """Start the cluster that *prepare* describes; only return with it ready, or ended.

    Raises:
        CannotStartError: one is running, or this one did not start.
        BadArgumentError: from *prepare*.
    """
    with directory.locked() as lock:
        clean_up(directory)
        settings = prepare()
        for name in LOG_NAMES:  # those of the last run
            directory.log(name).unlink(missing_ok=True)
        try:
            if detach:
                _start_detached(directory, settings, lock, console)
            else:
                _run_here(directory, settings, console)
        except CannotStartError as error:
            clean_up(directory)
            raise CannotStartError(f"{error}\nlogs are in {directory.logs}") from error


def _run_here(directory: StateDirectory, settings: Settings, console: Console) -> None:
    log_to(directory.log("supervisor"))
    narrator = _Narrator(directory, console)
    with narrator:
        asyncio.run(supervise(settings, directory, on_change=narrator.show))
    say(console, "stopped")


class _Narrator:
    """Shows a start, then the banner, then only what befalls the parts."""

    def __init__(self, directory: StateDirectory, console: Console) -> None:
        self._directory = directory
        self._console = console
        self._context = display(console)
        self._display = self._context.__enter__()
        self._starting = True
        self._before: ClusterState | None = None

    def __enter__(self) -> "_Narrator":
        return self

    def __exit__(self, *_: object) -> None:
        self._end_display()

    def show(self, state: ClusterState) -> None:
        if self._starting:
            self._show_start(state)
        elif state.phase is ClusterPhase.STOPPING:
            if self._before is not None and self._before.phase is not state.phase:
                say(self._console, "stopping; once more to stop at once")
        else:
            for line in changes(self._before, state, phases_only=True):
                say(self._console, line)
        self._before = state

    def _show_start(self, state: ClusterState) -> None:
        self._display.show(state)
        if state.phase is ClusterPhase.STARTING:
            return
        self._end_display()
        if state.phase is ClusterPhase.READY:
            for line in banner(state, self._directory.logs, detached=False):
                say(self._console, line)

    def _end_display(self) -> None:
        if self._starting:
            self._starting = False
            self._context.__exit__(None, None, None)


def _start_detached(
    directory: StateDirectory, settings: Settings, lock: int, console: Console
) -> None:
    (directory.path / SETTINGS_FILE).write_bytes(msgspec.json.encode(settings))
    with directory.log("supervisor").open("ab") as log:
        supervisor = subprocess.Popen(
            [*module_command("twofold_cli.supervisor"), str(directory.path), str(lock)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(lock,),
        )
    try:
        state = _wait_until_ready(directory, supervisor, console)
    except BaseException:  # whatever ends this start, Ctrl-C too, ends what it has started
        _end(supervisor)
        raise
    for line in banner(state, directory.logs, detached=True):
        say(console, line)
    supervisor.returncode = 0  # it lives on, and Python shall not mind


def _wait_until_ready(
    directory: StateDirectory, supervisor: "subprocess.Popen[bytes]", console: Console
) -> ClusterState:
    # Bounded by the supervisor, which fails a start that stalls.
    with display(console) as shown:
        while True:
            ended = supervisor.poll() is not None
            state = directory.read()
            if state is not None:
                shown.show(state)
                if state.phase is ClusterPhase.READY and not ended:
                    return state
            if ended:
                raise CannotStartError(_why(directory, state))
            time.sleep(POLL_SECONDS)


def _why(directory: StateDirectory, state: ClusterState | None) -> str:
    if state is not None and state.phase is ClusterPhase.FAILED:
        return state.reason
    last = last_lines(directory.log("supervisor"))
    return f"the supervisor ended before the cluster was ready:\n{last}"


def _end(supervisor: "subprocess.Popen[bytes]") -> None:
    if supervisor.poll() is None:
        os.kill(supervisor.pid, signal.SIGTERM)
        try:
            supervisor.wait(STOP_LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()
