"""Draining all workers of this machine at once."""

import asyncio
import logging
from pathlib import Path

from twofold_engine import steering
from twofold_engine.draining.addresses import read_addresses
from twofold_engine.draining.managers import managers_ended
from twofold_engine.errors import EngineError

MANAGER = "the pool manager"

_log = logging.getLogger(__name__)


async def drain_machine(directory: Path, limit_seconds: float) -> list[str]:
    """Drain the workers whose addresses are in *directory*, and wait for the pool managers.

    Return who still had work in the end. A worker that does not answer again and again has ended:
    nobody waits for it. A manager is not told to end, but drains its workers, or leaves them to the
    next one, when it is.
    """
    addresses = read_addresses(directory)
    draining = {
        worker_id: asyncio.create_task(_drain(worker_id, address, limit_seconds))
        for worker_id, address in addresses.items()
    }
    draining[MANAGER] = asyncio.create_task(_managers_end(directory, limit_seconds))
    return [worker_id for worker_id, task in draining.items() if not await task]


async def _managers_end(directory: Path, limit_seconds: float) -> bool:
    try:
        async with asyncio.timeout(limit_seconds):
            await managers_ended(directory)
    except TimeoutError:
        return False
    return True


async def _drain(worker_id: str, address: str, limit_seconds: float) -> bool:
    try:
        async with asyncio.timeout(limit_seconds):
            await steering.drain(address)
    except EngineError as error:
        _log.warning("cannot drain: %s", error, extra={"worker": worker_id})
    except TimeoutError:
        return False
    return True
