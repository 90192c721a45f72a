"""/healthz, /readyz and /metrics."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from twofold_cluster.listening import listening_socket


@dataclass(frozen=True, slots=True)
class Health:
    """What to answer the kubelet; each returns why not, or None."""

    unhealthy: Callable[[], str | None]
    unready: Callable[[], str | None]


@asynccontextmanager
async def serving(
    host: str, port: int, health: Health, registry: CollectorRegistry
) -> AsyncIterator[int]:
    """Answer until the end of the block; yields the port.

    Raises:
        OSError: the address cannot be had.
    """

    async def healthz(_request: web.Request) -> web.Response:
        return _answer(health.unhealthy())

    async def readyz(_request: web.Request) -> web.Response:
        return _answer(health.unready())

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    app = web.Application()
    app.add_routes(
        [web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)]
    )
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.SockSite(runner, listening_socket(host, port))
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def _answer(problem: str | None) -> web.Response:
    if problem is None:
        return web.Response(text="ok\n")
    return web.Response(status=503, text=f"{problem}\n")
