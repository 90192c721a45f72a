"""This machine as a node of a Ray cluster, which brings it no resources.

A driver needs a node of Ray's beside it; that of a pool manager must never be given a worker.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

LEAVE_LIMIT_SECONDS = 35.0
"""A little more than the 30 s that Ray gives its node to drain."""

_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def joined(address: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Be a node of the Ray cluster at *address*, as long as the process lives that this yields."""
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("ray"),
        "start",
        f"--address={address}",
        "--num-cpus=0",
        "--num-gpus=0",
        "--min-worker-port=0",  # any: another node may be on this machine
        "--max-worker-port=0",
        "--disable-usage-stats",
        "--block",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=sys.stderr,
        start_new_session=True,  # so that all of it can be ended
    )
    try:
        yield process
    finally:
        await _leave(process)


async def _leave(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(LEAVE_LIMIT_SECONDS):
            await process.wait()
    except TimeoutError:
        _log.warning("Ray's node is forced to end")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
