"""The gRPC server of a worker's prefixes, and what ends pins: a drain, and the worker's end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import aiohttp

from twofold_cluster.rpc import kvtransfer_pb2_grpc as rpc
from twofold_cluster.worker import Worker
from twofold_engine.prefixes import draining, engine
from twofold_engine.prefixes.addresses import prefixes_address
from twofold_engine.prefixes.looking_up import RedisLookup
from twofold_engine.prefixes.pinning import Pins
from twofold_engine.prefixes.prompts import MAX_PROMPT_BYTES, Prompt
from twofold_engine.prefixes.ranks import GrpcRanks
from twofold_engine.prefixes.service import PrefixesService
from twofold_kvtransfer.service import bind

MAX_REQUEST_BYTES = MAX_PROMPT_BYTES + 2**10


class Leaving(draining.Leaving, Protocol):
    """The worker as it is announced, and its engine; tells when it drains for whatever reason."""

    @property
    def worker(self) -> Worker:
        """As it is announced now."""

    async def until_draining(self) -> None:
        """Return when new requests are refused."""


@asynccontextmanager
async def serving_prefixes(
    worker: Worker, leaving: Leaving, redis_url: str | None
) -> AsyncIterator[None]:
    """Serve the prefixes of *worker*, which *leaving* has from now on, until the end of the block,
    which ends all pins.

    An engine without our connector has no ranks to ask: nothing is served then.

    Raises:
        ServiceError: the port is taken.
    """
    if not worker.kv_transfer:
        yield
        return

    def own() -> Worker:
        return leaving.worker

    ranks = GrpcRanks(own)
    pins = Pins(own, lambda prompt, leg: _compute(own(), prompt, leg), ranks)
    service = PrefixesService(own, leaving, RedisLookup(redis_url, own), pins, ranks)
    host, _, port = prefixes_address(worker).rpartition(":")
    server = bind(host.strip("[]"), int(port), max_request_bytes=MAX_REQUEST_BYTES)
    rpc.add_PrefixesServicer_to_server(service, server)
    await server.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            closing = tasks.create_task(_close_when_draining(leaving, pins))
            try:
                yield
            finally:
                closing.cancel()
    finally:
        await server.stop(grace=None)
        await pins.close()


async def _close_when_draining(leaving: Leaving, pins: Pins) -> None:
    await leaving.until_draining()
    await pins.close()


async def _compute(own: Worker, prompt: Prompt, leg: bytes) -> engine.Computed:
    async with aiohttp.ClientSession() as session:
        return await engine.compute(session, own, prompt.api, leg)
