"""``python -m twofold_engine.pools``: the pool manager of one service."""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from typing import get_args

from twofold_cluster.logs import log_json
from twofold_cluster.membership import connect
from twofold_engine.actor import EngineKind
from twofold_engine.pools.managing import ManagerSettings, PoolManager


def main() -> int:
    options = _parser().parse_args()
    log_json("info")
    return asyncio.run(_serve(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m twofold_engine.pools",
        description="Manage the worker pools of one service on Ray; told what to want over gRPC.",
    )
    parser.add_argument("--service", required=True)
    parser.add_argument("--redis", required=True, help="URL of the membership's Redis")
    parser.add_argument("--listen", default="127.0.0.1:50051", help="host:port of the gRPC API")
    parser.add_argument(
        "--ray",
        default="auto",
        help="local: start Ray on this machine, and end it with this process; "
        "auto: the cluster that this machine belongs to; or a cluster's address",
    )
    parser.add_argument("--log-dir", default="/tmp/twofold", help="for the workers' logs")  # noqa: S108
    parser.add_argument(
        "--engine",
        choices=get_args(EngineKind),
        default="vllm",
        help="sim: engines without a model; a pool's engine arguments are then the simulator's",
    )
    return parser


async def _serve(options: argparse.Namespace) -> int:
    # Here and not above: Ray takes a second to import, which --help need not wait for.
    import grpc
    import ray

    from twofold_cluster.rpc.pools_pb2_grpc import add_PoolsServicer_to_server
    from twofold_engine.pools.launching import RayLauncher
    from twofold_engine.pools.serving import PoolsService

    one_machine = options.ray == "local"
    # Ray starts its workers at niceness 15: an engine is not background work.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _start_ray(ray, options.ray)
    stopping = _stop_signal()
    server = grpc.aio.server()
    try:
        async with connect(options.redis) as redis:
            manager = PoolManager(
                ManagerSettings(options.service, options.redis),
                RayLauncher(options.log_dir, one_machine=one_machine, kind=options.engine),
                redis,
            )
            add_PoolsServicer_to_server(PoolsService(manager, time.monotonic), server)
            server.add_insecure_port(options.listen)
            await server.start()
            managing = asyncio.create_task(manager.run())
            stop = asyncio.create_task(stopping.wait())
            await asyncio.wait([managing, stop], return_when=asyncio.FIRST_COMPLETED)
            await server.stop(grace=1.0)
            managing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await managing
    finally:
        ray.shutdown()
    return 0


def _stop_signal() -> asyncio.Event:
    """Listen for the signals to end. After ray.init, which takes them for itself."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping


def _start_ray(ray: object, address: str) -> None:
    ray.init(  # type: ignore[attr-defined]
        address=address,
        include_dashboard=False if address == "local" else None,
        log_to_driver=False,
        logging_level=logging.WARNING,
    )


if __name__ == "__main__":
    sys.exit(main())
