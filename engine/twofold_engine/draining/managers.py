"""The pool managers of this machine, which need its Ray until they have ended."""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

_LOCK = "pools.lock"

POLL_SECONDS = 0.2


@contextlib.contextmanager
def managing(directory: Path) -> Iterator[None]:
    """Be seen by :func:`managers_ended`, until the end of the block or of the process.

    A lock on a file is seen by all containers of a pod that have the file, as no process id is.

    Raises:
        OSError: there can be no such file.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with _opened(directory / _LOCK) as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # services on one machine each have a manager
        yield


async def managers_ended(directory: Path) -> None:
    """Return when no pool manager runs on this machine. The caller bounds the wait."""
    path = directory / _LOCK
    if not path.exists():
        return
    with _opened(path) as lock:
        while not _is_free(lock):  # noqa: ASYNC110 another process's state
            await asyncio.sleep(POLL_SECONDS)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_free(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
