"""``python -m twofold_engine.pools``: the pool manager of one service."""

import argparse
import asyncio
import contextlib
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from twofold_cluster.logs import log_json
from twofold_cluster.membership import connect
from twofold_engine.actor import EngineKind
from twofold_engine.draining.addresses import LOG_DIR
from twofold_engine.draining.managers import managing
from twofold_engine.errors import SupersededError
from twofold_engine.pools.actor_names import NAMESPACE, SEPARATOR
from twofold_engine.pools.managing import PoolManager
from twofold_engine.pools.settings import (
    ORPHAN_LIMIT_SECONDS,
    START_LIMIT_SECONDS,
    ManagerSettings,
)
from twofold_engine.settings import REDIS_ENV, holdings_lack

RAY_LIMIT_SECONDS = 120.0
"""For Ray to be there: its container may start after this one."""

RAY_RETRY_SECONDS = 1.0

MIN_ORPHAN_SECONDS = 5.0
"""A manager asks twice a second, and may be late."""

_log = logging.getLogger(__name__)


def main() -> int:
    parser = _parser()
    options = parser.parse_args()
    if not options.redis:
        parser.error(f"--redis or {REDIS_ENV} must say where the membership is")
    if options.join and options.ray in ("local", "auto"):
        parser.error("--join needs the address of a Ray cluster as --ray")
    if lack := holdings_lack(options.directory_holdings) or _lack(options):
        parser.error(lack)
    log_json("info")
    try:
        return asyncio.run(_serve(options))
    except asyncio.CancelledError:  # told to end before it managed anything
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m twofold_engine.pools",
        description="Manage the worker pools of one service on Ray; told what to want over gRPC.",
    )
    parser.add_argument("--service", required=True)
    parser.add_argument(
        "--worker-prefix",
        help="what worker ids begin with; default: the service. Two managers of one service need "
        "two of them",
    )
    parser.add_argument(
        "--redis",
        default=os.environ.get(REDIS_ENV),
        help=f"URL of the membership's Redis; default: {REDIS_ENV}, where no password is seen",
    )
    parser.add_argument("--listen", default="127.0.0.1:50051", help="host:port of the gRPC API")
    parser.add_argument(
        "--ray",
        default="auto",
        help="local: start Ray on this machine, and end it with this process; "
        "auto: the cluster that this machine belongs to; or a cluster's address",
    )
    parser.add_argument(
        "--join",
        action="store_true",
        help="make this machine a node of the Ray cluster first, one without resources",
    )
    parser.add_argument("--log-dir", default=LOG_DIR, help="for the workers' logs")
    parser.add_argument(
        "--drain-seconds",
        type=float,
        default=0.0,
        help="how long workers may finish what they have when this process is told to end; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--start-seconds",
        type=float,
        default=START_LIMIT_SECONDS,
        metavar="SECONDS",
        help="a worker that has its place, and is not ready after so long, is ended and started "
        "again; default: %(default)s",
    )
    parser.add_argument(
        "--leave-workers",
        action="store_true",
        help="leave the workers, if any are wanted, to the next manager when this process is told "
        "to end: for a Ray cluster that goes on without it",
    )
    parser.add_argument(
        "--orphan-seconds",
        type=float,
        default=ORPHAN_LIMIT_SECONDS,
        metavar="SECONDS",
        help="workers that no manager asks for so long drain and end by themselves; "
        "default: %(default)s",
    )
    parser.add_argument(
        "--engine",
        choices=get_args(EngineKind),
        default="vllm",
        help="sim: engines without a model; a pool's engine arguments are then the simulator's",
    )
    parser.add_argument(
        "--directory-holdings",
        type=int,
        metavar="N",
        help="most that the block directory, which workers with KV events feed, lists: one block "
        "in one worker is one; default: the directory's own limit",
    )
    return parser


def _lack(options: argparse.Namespace) -> str | None:
    """Return what is wrong with what was said; None: nothing."""
    for option in ("service", "worker_prefix"):
        if SEPARATOR in (getattr(options, option) or ""):
            return f"--{option.replace('_', '-')} must have no {SEPARATOR}"
    if options.leave_workers and options.ray == "local":
        return "--leave-workers needs a Ray that goes on without this process"
    if not 0 < options.start_seconds < math.inf:
        return "--start-seconds must be more than 0"
    if not MIN_ORPHAN_SECONDS <= options.orphan_seconds < math.inf:
        return f"--orphan-seconds must be at least {MIN_ORPHAN_SECONDS:g}"
    return None


async def _serve(options: argparse.Namespace) -> int:
    this = asyncio.current_task()
    assert this is not None
    # The first process of a container gets no signal that it does not listen for.
    _on_stop(this.cancel)
    # Ray starts its workers at niceness 15: an engine is not background work.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if options.ray != "local" and _has_token():
        # As "ray start" does; ray.init does not at a given address, and would be refused.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    # Here and not above: Ray reads the environment as it is imported, and takes a second for it.
    import ray

    from twofold_engine.pools.joining import joined

    async with contextlib.AsyncExitStack() as stack:
        # Ray, in the container beside, is not told to end before this process has ended.
        stack.enter_context(managing(Path(options.log_dir)))
        node_ends: asyncio.Task[int] | None = None
        if options.join:
            node = await stack.enter_async_context(joined(options.ray))
            node_ends = asyncio.create_task(node.wait())
            stack.callback(node_ends.cancel)
        await _connect_to_ray(options.ray, node_ends)
        stack.callback(ray.shutdown)
        return await _manage(options, node_ends)


async def _manage(options: argparse.Namespace, node_ends: "asyncio.Task[int] | None") -> int:
    from twofold_cluster.rpc.pools_pb2_grpc import add_PoolsServicer_to_server
    from twofold_engine.pools.launching import RayLauncher
    from twofold_engine.pools.listening import new_server
    from twofold_engine.pools.serving import PoolsService

    stopping = asyncio.Event()
    _on_stop(stopping.set)  # again: ray.init has taken the signals for itself
    settings = ManagerSettings(
        options.service,
        options.redis,
        worker_prefix=options.worker_prefix or options.service,
        directory_holdings=options.directory_holdings,
        start_limit_seconds=options.start_seconds,
        orphan_limit_seconds=options.orphan_seconds,
    )
    is_local = options.ray == "local"
    launcher = RayLauncher(settings, options.log_dir, one_machine=is_local, kind=options.engine)
    server = new_server()
    async with connect(options.redis) as redis:
        manager = PoolManager(settings, launcher, redis)
        await manager.take_over()  # before anybody can ask what is there
        add_PoolsServicer_to_server(PoolsService(manager, time.monotonic), server)
        server.add_insecure_port(options.listen)
        await server.start()
        managing = asyncio.create_task(manager.run())
        stop = asyncio.create_task(stopping.wait())
        ends = [managing, stop, *([node_ends] if node_ends is not None else [])]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        await server.stop(grace=1.0)
        is_told = stop.done()
        leaves = options.leave_workers and not manager.wants_none
        ends_workers = is_local or (is_told and not leaves)
        if is_told and ends_workers and options.drain_seconds > 0 and not managing.done():
            await manager.drain_all(options.drain_seconds)
        stop.cancel()
        managing.cancel()
        try:
            await managing
        except asyncio.CancelledError:
            pass
        except SupersededError as error:
            _log.error("%s", error)
            is_told = False
        finally:
            if ends_workers:
                await manager.end_all()
            elif is_told:
                await manager.leave_all()
    return 0 if is_told else 1


async def _connect_to_ray(address: str, node_ends: "asyncio.Task[int] | None") -> None:
    """Be a driver of the cluster at *address*, which may still be starting.

    Raises:
        ConnectionError, RuntimeError: it is not there, not even after a while.
    """
    import ray

    give_up_at = time.monotonic() + RAY_LIMIT_SECONDS
    while True:
        try:
            _start_ray(ray, address)
        except (ConnectionError, RuntimeError) as error:
            is_alone = node_ends is not None and node_ends.done()
            if address == "local" or is_alone or time.monotonic() > give_up_at:
                raise
            _log.info("waiting for Ray: %s", str(error).splitlines()[0])
            ray.shutdown()
            await asyncio.sleep(RAY_RETRY_SECONDS)
        else:
            return


def _has_token() -> bool:
    """Tell whether Ray would find a token to show to a cluster."""
    told = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    return bool(told) or (Path.home() / ".ray" / "auth_token").is_file()


def _on_stop(do: Callable[[], object]) -> None:
    """Do this, and nothing else, at a signal to end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, do)


def _start_ray(ray: Any, address: str) -> None:
    ray.init(
        address=address,
        namespace=NAMESPACE,
        include_dashboard=False if address == "local" else None,
        log_to_driver=False,
        logging_level=logging.WARNING,
    )


if __name__ == "__main__":
    sys.exit(main())
