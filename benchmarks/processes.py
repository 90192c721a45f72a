"""Processes that a benchmark starts, measured from outside and ended by their ids."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from os import getpid
from pathlib import Path

import psutil

HOST = "127.0.0.1"

STOP_SECONDS = 10.0
"""How long a process may take to end by itself."""
POLL_SECONDS = 0.05
ANSWER_SECONDS = 5.0


class ProcessError(Exception):
    """A process ended, or did not become ready in its time; carries the end of its log."""


class MeasuredProcess:
    """A process and its children, as seen from outside."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self._popen = popen
        self._log = log

    @property
    def pid(self) -> int:
        return self._popen.pid

    def cpu_seconds(self) -> float:
        """User and system time of the tree so far, to the nanosecond."""
        return sum(cpu_seconds_of(process.pid) for process in self._tree())

    def resident_bytes(self) -> int:
        return sum(process.memory_info().rss for process in self._tree())

    def descriptor_count(self) -> int:
        return sum(process.num_fds() for process in self._tree())

    def check(self) -> None:
        """
        Raises:
            ProcessError: it has ended.
        """
        code = self._popen.poll()
        if code is not None:
            raise self.failed(f"ended with code {code}")

    def failed(self, what: str) -> ProcessError:
        """Make an error that says *what*, and what the process said last."""
        log_end = self._log.read_text(errors="replace")[-2000:]
        return ProcessError(f"{self.name} {what}:\n{log_end}")

    def _tree(self) -> list[psutil.Process]:
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]


@contextmanager
def running(name: str, command: Sequence[str], logs: Path) -> Iterator[MeasuredProcess]:
    """Run *command* meanwhile, and never longer than this process lives."""
    log = logs / f"{name.replace(' ', '-').replace('/', '-')}.log"
    guarded = [sys.executable, "-m", "twofold_cli.child", str(getpid()), "--", *command]
    with log.open("wb") as output:
        popen = subprocess.Popen(guarded, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    measured = MeasuredProcess(name, popen, log)
    try:
        yield measured
    finally:
        _stop(popen)


def cpu_seconds_of(pid: int) -> float:
    """Return the CPU time of all threads of *pid*, past ones too.

    The clock's number is Linux's MAKE_PROCESS_CPUCLOCK; /proc/<pid>/stat has the same sum, but in
    ticks of 10 ms.
    """
    scheduler_clock = 2
    return time.clock_gettime((~pid << 3) | scheduler_clock)


def busy_seconds() -> float:
    """Return what all cores of the machine spent so far on anything, another machine included."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on now, all different."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int | None, bytes]:
    """Send one request. Returns the status, None if there was no answer, and the body."""
    connection = HTTPConnection(HOST, port, timeout=ANSWER_SECONDS)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, HTTPException):
        return None, b""
    finally:
        connection.close()


def wait_until_ready(
    process: MeasuredProcess, port: int, request: tuple[str, str, bytes | None], seconds: float
) -> None:
    """Repeat *request* (method, path, body) until it is answered with 200.

    Raises:
        ProcessError: the process ended, or was not ready in time.
    """
    deadline = time.monotonic() + seconds
    while ask(port, *request)[0] != 200:
        process.check()
        if time.monotonic() > deadline:
            raise process.failed(f"was not ready within {seconds:.0f} s")
        time.sleep(POLL_SECONDS)


def _stop(popen: subprocess.Popen[bytes]) -> None:
    popen.terminate()
    try:
        popen.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        for process in psutil.Process(popen.pid).children(recursive=True):
            process.kill()
        popen.kill()
        popen.wait()
