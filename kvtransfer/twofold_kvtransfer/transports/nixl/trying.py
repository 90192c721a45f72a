"""What UCX really takes, seen by reading a MiB of another process."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import IO

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.transports.nixl import one_read
from twofold_kvtransfer.transports.nixl.protocol_tables import way_of_reads
from twofold_kvtransfer.transports.nixl.ways import Way

LIMIT_SECONDS = 20.0
"""NIXL takes two or three to load on an idle machine."""
END_SECONDS = 5.0
"""For the kernel to end a process that was killed."""

_WITHIN_A_MACHINE = frozenset(
    {"self", "shm", "sm", "mm", "sysv", "posix", "xpmem", "cma", "knem", "cuda_ipc", "rocm_ipc"}
)
_ERROR = re.compile(r"UCX\s+ERROR\s+(.+)")


class NoWayError(TwofoldError):
    """Nothing was read; the message says why, if UCX does."""


def network_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* without the ways that end at this machine: shared memory and loopback.

    Two processes of one machine then move bytes as if each was on its own, but for what a switch
    between them does.

    Raises:
        NoWayError: ``UCX_TLS`` allows no other way.
    """
    transports = environ.get("UCX_TLS", "all").split(",")
    if transports[0].startswith("^"):
        left = [*transports, "shm"]
    elif "all" in transports:
        left = ["^shm"]
    else:
        left = [name for name in transports if name not in _WITHIN_A_MACHINE]
    if not left:
        raise NoWayError(f"UCX_TLS={environ['UCX_TLS']} ends at this machine")
    devices = environ.get("UCX_NET_DEVICES", "all")
    return {
        **environ,
        "UCX_TLS": ",".join(left),
        "UCX_NET_DEVICES": "^lo" if devices == "all" else devices,
    }


def try_way(environ: Mapping[str, str], limit_seconds: float = LIMIT_SECONDS) -> Way:
    """Have one process read memory of another, and return the way that UCX took.

    It is host memory. Memory of a GPU goes over the same network device where the driver lets that
    read it, and over host memory where it does not.

    Raises:
        NoWayError: NIXL is not installed, UCX found no way, or it took longer than the limit.
    """
    try:
        log = _run(environ, limit_seconds)
    except (OSError, subprocess.SubprocessError) as error:  # it may also hang in a broken driver
        raise NoWayError(f"it could not be tried: {error}") from error
    way = way_of_reads(log, one_read.SIZE_BYTES)
    if one_read.DONE not in log or way is None:
        raise NoWayError(_why(log))
    return way


def _run(environ: Mapping[str, str], limit_seconds: float) -> str:
    """Return what the reader and UCX in it print."""
    ours = {**environ, "UCX_PROTO_INFO": "y", "UCX_LOG_LEVEL": "warn"}
    ours.pop("UCX_LOG_FILE", None)
    with (
        _child("lend", subprocess.PIPE, ours) as lender,
        _child("read", lender.stdout, ours) as reader,
    ):
        assert lender.stdout is not None, "a pipe was asked for"
        lender.stdout.close()  # the reader's alone, so that it sees the end of the lender
        try:
            log, _ = reader.communicate(timeout=limit_seconds)
        except subprocess.TimeoutExpired as error:
            raise NoWayError(f"nothing was read within {limit_seconds:g} s") from error
    return log.decode(errors="replace")


@contextlib.contextmanager
def _child(
    role: str, source: int | IO[bytes] | None, environ: Mapping[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run :mod:`one_read` in a group of its own, which is killed in the end."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", one_read.__name__, role],
        stdin=source,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(environ),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(END_SECONDS)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _why(log: str) -> str:
    if errors := _ERROR.findall(log):
        return str(errors[-1]).strip()
    if failures := re.findall(f"^{one_read.FAILED}(.+)$", log, re.MULTILINE):
        return str(failures[-1])
    return "UCX did not say which way it took"
