"""The gateway as a whole: what it owns, and in which order that ends."""

import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from twofold_router.gateway.background import open_background
from twofold_router.gateway.dispatcher import Dispatcher
from twofold_router.gateway.http_edge import HttpEdge
from twofold_router.gateway.listening import BACKLOG, url_of
from twofold_router.gateway.resources import Resources
from twofold_router.gateway.upstream import open_upstream
from twofold_router.metrics import Metrics, RouterSnapshot
from twofold_router.settings import RouterSettings

_log = logging.getLogger(__name__)

READ_BUFFER_BYTES = 256 * 1024

BACKGROUND_DRAIN_SECONDS = 5.0
"""For releases after the requests were drained: both together end before Kubernetes kills."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that listens."""

    url: str
    metrics: Metrics


@asynccontextmanager
async def open_gateway(
    settings: RouterSettings,
    dispatcher: Dispatcher,
    is_stale: Callable[[], bool],
    listener: socket.socket,
) -> AsyncIterator[Gateway]:
    """Serve *listener* until the end of the block, then drain: requests first, then releases."""
    metrics = Metrics(_snapshot_of(dispatcher, is_stale))
    async with (
        open_upstream(settings.connect_timeout_seconds) as upstream,
        open_background(BACKGROUND_DRAIN_SECONDS) as background,
    ):
        resources = Resources(settings, dispatcher, upstream, background, metrics)
        runner = web.AppRunner(
            HttpEdge(resources, is_stale).application(),
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            read_bufsize=READ_BUFFER_BYTES,
            # aiohttp waits this long for handlers, and once more before it cancels them.
            shutdown_timeout=settings.drain_timeout_seconds / 2,
        )
        await runner.setup()
        try:
            await web.SockSite(runner, listener, backlog=BACKLOG).start()
            _log.info("listening", extra={"url": url_of(listener)})
            yield Gateway(url_of(listener), metrics)
            _log.info("draining", extra={"seconds": settings.drain_timeout_seconds})
        finally:
            await runner.cleanup()


def _snapshot_of(
    dispatcher: Dispatcher, is_stale: Callable[[], bool]
) -> Callable[[], RouterSnapshot]:
    def snapshot() -> RouterSnapshot:
        now = dispatcher.snapshot()
        return RouterSnapshot(now.placement, now.workers, is_stale())

    return snapshot
