"""A decode worker that warms up pairs with prefill workers of which one hangs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from twofold_cluster.apis import Api
from twofold_cluster.identity import Incarnation, Role, WorkerId
from twofold_cluster.membership import connect
from twofold_cluster.membership.entries import announce
from twofold_cluster.worker import Engine, Worker
from twofold_decode_worker.pairing import keep_pairs_warm
from twofold_engine.settings import WorkerSettings

WAIT_SECONDS = 20.0
"""Less than what a hanging pair may take."""

PARAMS = {
    "do_remote_prefill": True,
    "remote_engine_id": "e",
    "remote_request_id": "r",
    "remote_host": "h",
    "remote_port": 1,
}


class Server:
    """An engine's completions; it counts those that it was asked for."""

    def __init__(self, *, hangs: bool = False) -> None:
        self._hangs = hangs
        self.request_count = 0

    async def complete(self, _: web.Request) -> web.Response:
        self.request_count += 1
        if self._hangs:
            await asyncio.Event().wait()
        return web.json_response({"kv_transfer_params": PARAMS})

    @asynccontextmanager
    async def serving(self, name: str, role: Role) -> AsyncIterator[Worker]:
        app = web.Application()
        app.router.add_post(Api.COMPLETIONS, self.complete)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            port = runner.addresses[0][1]
            yield Worker(
                worker_id=WorkerId(name),
                incarnation=Incarnation(f"{name}-1"),
                service="s",
                role=role,
                revision="1",
                address=f"http://127.0.0.1:{port}",
                model="m",
                engine=Engine(version="0.32.0", compatibility="abc"),
                kv_capacity_tokens=1024,
                kv_block_tokens=128,
                max_model_tokens=1024,
            )
        finally:
            await runner.cleanup()


@asynccontextmanager
async def warming(settings: WorkerSettings, own: Worker) -> AsyncIterator[None]:
    task = asyncio.create_task(keep_pairs_warm(settings, lambda: own))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until_asked(server: Server) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not server.request_count:
            await asyncio.sleep(0.01)


async def test_a_prefill_worker_that_hangs_keeps_no_other_pair_cold(valkey: Any) -> None:
    own, hung, good = Server(), Server(hangs=True), Server()
    settings = WorkerSettings(
        service="s",
        worker_id=WorkerId("own"),
        role=Role.DECODE,
        model="m",
        served_name="m",
        redis=valkey.url,
    )
    async with (
        connect(valkey.url) as redis,
        own.serving("own", Role.DECODE) as own_worker,
        hung.serving("hung", Role.PREFILL) as hung_worker,
        good.serving("good", Role.PREFILL) as good_worker,
    ):
        await announce(redis, hung_worker, WAIT_SECONDS * 3)
        async with warming(settings, own_worker):
            await until_asked(hung)

            await announce(redis, good_worker, WAIT_SECONDS * 3)
            await until_asked(good)
            await until_asked(own)

    assert hung.request_count == 1
