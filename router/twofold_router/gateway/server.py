"""The gateway as a whole: what it owns, and in which order that ends."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from twofold_router.gateway.admitting import Admitting
from twofold_router.gateway.background import open_background
from twofold_router.gateway.cors import Cors
from twofold_router.gateway.doubting import Doubts
from twofold_router.gateway.edge import Edge, ReadMetrics
from twofold_router.gateway.listening import url_of
from twofold_router.gateway.readiness import ReadinessCheck
from twofold_router.gateway.reply import answer_of_refusal, fault_of_refusal
from twofold_router.gateway.request_timeout import Deadlines
from twofold_router.gateway.resources import Resources
from twofold_router.gateway.tickets import Desk
from twofold_router.gateway.upstream import Upstream
from twofold_router.http import (
    HeaderPairs,
    RefusalAnswer,
    RefusedError,
    Server,
    open_client,
    serve,
)
from twofold_router.metrics import Metrics
from twofold_router.settings import RouterSettings

_log = logging.getLogger(__name__)

SWEEP_SECONDS = 0.1
"""How much longer than its time a request may take."""

BACKGROUND_DRAIN_SECONDS = 5.0
"""For releases after the requests were drained: both together end before Kubernetes kills."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A gateway that listens."""

    url: str
    server: Server
    readiness: ReadinessCheck
    drain_delay_seconds: float

    async def leave(self, stop: asyncio.Event) -> None:
        """Say that it is not ready, and serve on until everybody should have heard of that, or
        until *stop* is set once more."""
        self.readiness.is_leaving = True
        stop.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self.drain_delay_seconds):
                await stop.wait()


@asynccontextmanager
async def open_gateway(
    settings: RouterSettings,
    desk: Desk,
    admitting: Admitting,
    metrics: Metrics,
    read_metrics: ReadMetrics,
    listener: socket.socket,
) -> AsyncIterator[Gateway]:
    """Serve *listener* until the end of the block, then drain: requests first, then releases."""
    async with (
        open_client(settings.client_limits()) as client,
        open_background(BACKGROUND_DRAIN_SECONDS) as background,
    ):
        upstream = Upstream(client, metrics, settings.engine_headers())
        deadlines = Deadlines()
        doubts = Doubts(settings, desk, upstream, background, deadlines, metrics)
        resources = Resources(settings, desk, upstream, background, deadlines, metrics, doubts)
        readiness = ReadinessCheck(settings)
        cors = Cors(settings.allowed_origins) if settings.allowed_origins else None
        edge = Edge(resources, admitting, read_metrics, readiness, cors)
        url = url_of(listener)
        background.watch(_sweep(deadlines, desk))
        async with serve(
            listener,
            edge.handle,
            settings.server_limits(),
            _counted(cors.on(answer_of_refusal) if cors else answer_of_refusal, metrics),
            drain_seconds=settings.drain_timeout_seconds,
            give_up=deadlines.end_all,
            wants_body=edge.wants_body,
        ) as server:
            _log.info("listening", extra={"url": url})
            yield Gateway(url, server, readiness, settings.drain_delay_seconds)
            _log.info("draining", extra={"seconds": settings.drain_timeout_seconds})


def _counted(refusal: RefusalAnswer, metrics: Metrics) -> RefusalAnswer:
    """Return *refusal*, which counts what it is asked for."""

    def refuse(refused: RefusedError) -> tuple[HeaderPairs, bytes]:
        metrics.refusal(fault_of_refusal(refused).code)
        return refusal(refused)

    return refuse


async def _sweep(deadlines: Deadlines, desk: Desk) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        deadlines.sweep(desk.now())
