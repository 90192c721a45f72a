"""Ask one worker of the running cluster to do something with a prompt's beginning."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from twofold_cli.errors import CliError
from twofold_cli.finding import read_ready
from twofold_cli.following import LOOPBACK_OPTIONS
from twofold_cli.state import ClusterState
from twofold_cluster.identity import WorkerId
from twofold_cluster.rpc.kvtransfer_pb2_grpc import PrefixesStub
from twofold_cluster.worker import Worker
from twofold_engine.prefixes.addresses import prefixes_address


class RefusedError(CliError):
    """The worker is not there, does not do what it was asked for, or does not answer."""


async def worker_named(state: ClusterState, name: str) -> Worker:
    """Return the worker called *name*, which can be asked.

    Raises:
        CannotFindError: no worker is ready, or Redis is away.
        RefusedError: there is no such worker, or it has another connector.
    """
    workers = await read_ready(state)
    worker = workers.get(WorkerId(name))
    if worker is None:
        known = ", ".join(sorted(workers))
        raise RefusedError(f"no worker {name} is ready; there are: {known}")
    if not worker.kv_transfer:
        raise RefusedError(f"{name} has another connector than twofold")
    return worker


@asynccontextmanager
async def asking(worker: Worker) -> AsyncIterator[Any]:
    """Lend a stub of the service ``Prefixes`` of *worker*.

    Raises:
        RefusedError: it refuses, or does not answer, within the block.
    """
    address = prefixes_address(worker)
    try:
        async with grpc.aio.insecure_channel(address, options=LOOPBACK_OPTIONS) as channel:
            yield PrefixesStub(channel)
    except grpc.aio.AioRpcError as error:
        why = error.details() or error.code().name
        raise RefusedError(f"{worker.worker_id}: {why}") from error
