"""Processes that we started, told from strangers by number and start time together."""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
import psutil

_PR_SET_CHILD_SUBREAPER = 36

START_TIME_SLACK_SECONDS = 2.0
"""A start time is counted from the boot, whose time moves when the clock is set."""

POLL_SECONDS = 0.05

_NOTHING_YET = b"\0"


class ProcessId(msgspec.Struct, frozen=True):
    """One process for all time: a number alone is used again."""

    pid: int
    started_at: float
    """Seconds since 1970."""


def identify(pid: int) -> ProcessId | None:
    """Return who has the number *pid* now, None for nobody or one that only waits to be reaped."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return ProcessId(pid, process.create_time())
    except psutil.Error:
        return None


def is_alive(process: ProcessId) -> bool:
    now = identify(process.pid)
    return now is not None and (abs(now.started_at - process.started_at) < START_TIME_SLACK_SECONDS)


def send_signal(process: ProcessId, signal_number: signal.Signals) -> None:
    """Signal *process* if it is still itself."""
    if is_alive(process):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, signal_number)


def kill_group(leader: ProcessId) -> None:
    """Kill the process group of *leader*, which must lead one; nothing if it has ended."""
    if is_alive(leader):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            assert os.getpgid(leader.pid) == leader.pid, leader
            os.killpg(leader.pid, signal.SIGKILL)


def descendants(pid: int) -> list[ProcessId]:
    """Return all living processes below *pid*."""
    try:
        below = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []
    return [found for process in below if (found := identify(process.pid)) is not None]


def marked(name: str, value: str) -> list[ProcessId]:
    """Return the living processes that began with *name* = *value* in their environment.

    It finds what nobody has counted yet. What rewrites its own title may be missed. What has just
    begun shows no environment for a moment (execve(2)), so the empty ones are looked at twice.
    """
    mark = f"\0{name}={value}\0".encode()
    environs = {pid: _environ(pid) for pid in psutil.pids()}
    if begins := [pid for pid, environ in environs.items() if environ == _NOTHING_YET]:
        time.sleep(POLL_SECONDS)
        environs |= {pid: _environ(pid) for pid in begins}
    return [
        found for pid, environ in environs.items() if mark in environ and (found := identify(pid))
    ]


def group_members(leader_pid: int) -> set[ProcessId]:
    """Return those below this process that are in the group that *leader_pid* led."""
    members = set()
    for process in descendants(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(process.pid) == leader_pid:
                members.add(process)
    return members


def kill_all(processes: Iterable[ProcessId], *, wait_seconds: float = 5.0) -> list[ProcessId]:
    """Kill *processes* and wait for their end; return those that would not end in time."""
    left = [process for process in processes if is_alive(process)]
    for process in left:
        send_signal(process, signal.SIGKILL)
    return wait_for_end(left, wait_seconds=wait_seconds)


def wait_for_end(processes: Iterable[ProcessId], *, wait_seconds: float) -> list[ProcessId]:
    """Wait until all *processes* have ended; return those that have not in time."""
    deadline = time.monotonic() + wait_seconds
    left = list(processes)
    while (left := [process for process in left if is_alive(process)]) and (
        time.monotonic() < deadline
    ):
        time.sleep(POLL_SECONDS)
    return left


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent dies, so that none is lost."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def reap_adopted(own: Iterable[int]) -> None:
    """Reap the ended children of this process that are not its *own*: those it adopted."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error, ChildProcessError):
            if child.pid not in own and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)


def _environ(pid: int) -> bytes:
    try:
        return b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it has ended, or is another user's
        return b""
