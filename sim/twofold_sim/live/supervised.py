"""An engine's process below a supervisor: it says how far it is, and ends with it.

It does both as a worker with vLLM does (twofold_engine.events, twofold_kvtransfer.vllm_plugin).
"""

import contextlib
import ctypes
import os
import signal

import msgspec

from twofold_cluster.identity import Role
from twofold_sim.live.settings import InvalidEngineError

_PR_SET_PDEATHSIG = 1

_encode = msgspec.json.Encoder().encode


class Reporter:
    """Tells a supervisor how far the engine is, one JSON object a line, or tells nobody."""

    def __init__(self, events_fd: int | None) -> None:
        """Raises: InvalidEngineError: nothing is open at *events_fd*."""
        if events_fd is not None:
            try:
                os.fstat(events_fd)
            except (OSError, OverflowError) as error:
                raise InvalidEngineError(f"nothing is open at events_fd {events_fd}") from error
        self._events_fd = events_fd

    def starting(self) -> None:
        self._report({"step": "starting the engine"})

    def ready(self, address: str, role: Role) -> None:
        self._report({"step": "ready", "address": address, "role": role})

    def _report(self, event: dict[str, str]) -> None:
        if self._events_fd is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._events_fd, _encode(event) + b"\n")


def end_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when the one that started it, *parent_pid*, dies."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent_pid:
        os._exit(1)  # it died before the kernel knew
