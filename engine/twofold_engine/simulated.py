"""A worker whose engine has no model: ``python -m twofold_sim engine``, which serves, announces
itself and is steered as a worker with vLLM is."""

import asyncio
import logging

import aiohttp
import msgspec

from twofold_cluster.worker import Worker
from twofold_engine.paths import PREFIX
from twofold_engine.settings import WorkerSettings

MODULE = "twofold_sim"

ANSWER_LIMIT_SECONDS = 5.0

_log = logging.getLogger(__name__)


def sim_argv(settings: WorkerSettings) -> list[str]:
    """Return the command line of the simulator's engine for *settings*.

    What is about a model's weights or a processor has no meaning there. ``engine_args`` are the
    simulator's own, and have its ``--profile``.
    """
    told = {
        "--service": settings.service,
        "--worker-id": settings.worker_id,
        "--role": settings.role,
        "--model": settings.served_name,
        "--revision": settings.revision,
        "--incarnation": settings.incarnation,
        "--host": settings.host,
        "--port": settings.port,
        "--max-unprefilled": settings.max_unprefilled,
        "--max-in-flight": settings.max_in_flight,
        "--lease-seconds": settings.lease_seconds,
        "--node": settings.node,
        "--zone": settings.zone,
        "--events-fd": settings.events_fd,
        "--parent-pid": settings.parent_pid,
    }
    argv = [f"{name}={value}" for name, value in told.items() if value is not None]
    return [
        "engine",
        *argv,
        *(["--kv-events"] * settings.kv_events),
        *(["--standby"] * settings.standby),
        *settings.engine_args,
    ]


async def feed_directory_beside(settings: WorkerSettings, address: str) -> None:
    """Tell the block directory what the worker at *address* holds, until cancelled.

    A worker with vLLM does so itself. The simulator knows nothing of the directory, so it is done
    where its process is supervised. What makes it impossible is logged, and harms no worker.
    """
    # Here and not above: who only manages pools needs neither ZMQ nor Prometheus' client.
    from twofold_engine.feeding import feed_directory

    try:
        worker = await _ask_worker(address)
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
        _log.warning("a simulated worker does not say what it is: %r", error)
        return
    await feed_directory(settings.redis, worker, max_holdings=settings.directory_holdings)


async def _ask_worker(address: str) -> Worker:
    """Return how the worker at *address* describes itself."""
    async with (
        asyncio.timeout(ANSWER_LIMIT_SECONDS),
        aiohttp.ClientSession(raise_for_status=True) as session,
        session.get(f"{address}{PREFIX}/worker") as response,
    ):
        return msgspec.json.decode(await response.read(), type=Worker)
