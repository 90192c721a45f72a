"""Engines put together: their sockets, their tasks, and how they end."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from twofold_router.gateway.background import open_background
from twofold_router.gateway.listening import listen, url_of
from twofold_router.http import ClientLimits, Request, Responder, ServerLimits, open_client, serve
from twofold_router.http.sweeping import Sweeping
from twofold_sim.live.borrowing import Borrowing
from twofold_sim.live.edge import Edge, answer_of_refusal
from twofold_sim.live.engine import SimEngine
from twofold_sim.live.errors import EngineFaultError
from twofold_sim.live.exchange import JSON
from twofold_sim.live.kv_publishing import KvPublisher, zmq_context
from twofold_sim.live.leases import Leases
from twofold_sim.live.lending import Lending
from twofold_sim.live.membership import PREFIX, Membership, announced
from twofold_sim.live.settings import EngineSettings

GIVING_BACK_SECONDS = 2.0
"""At the end, for the lenders to hear what was read."""

CRASH_SECONDS = 0.02
"""For a last answer to leave: a process that ends has handed it to its kernel."""

SIDE_CHANNEL_LIMITS = ServerLimits(body_bytes=4 * 1024 * 1024)
"""A note of a million tokens' blocks has half of that."""

ENGINE_LIMITS = ServerLimits(body_bytes=64 * 1024 * 1024)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Serving:
    """An engine that listens."""

    url: str
    engine: SimEngine


@asynccontextmanager
async def open_engine(settings: EngineSettings) -> AsyncIterator[Serving]:
    """Serve one engine until the end of the block, or until it crashes.

    Raises:
        CannotListenError: an address or an endpoint cannot be had.
    """
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(listen(settings.host, settings.port))
        side_listener = stack.enter_context(listen(settings.host, settings.side_channel_port))
        # Before any task, among which the error would be one of a group.
        publisher = _publisher(settings, stack)
        client = await stack.enter_async_context(open_client(ClientLimits()))
        background = await stack.enter_async_context(open_background(GIVING_BACK_SECONDS))
        leases = Leases(settings.lease_seconds)
        borrowing = Borrowing(client, background, settings.lease_seconds)
        engine = SimEngine(settings, borrowing, publisher, leases)
        stack.callback(engine.driver.close)
        if publisher is not None:
            background.watch(publisher.serve_replays())
        engine.side_channel_port = side_listener.getsockname()[1]
        sweeping = Sweeping(engine.expire_leases)
        stack.callback(sweeping.stop)
        clock = asyncio.get_running_loop().time
        lending = Lending(settings.engine_id, leases, engine.driver.release, clock)
        url = url_of(listener)
        place = settings.membership
        membership = None if place is None else Membership(engine, place, url)
        await stack.enter_async_context(
            _serving(engine, side_listener, lending, listener, membership)
        )
        await stack.enter_async_context(announced(membership))
        _log.info("listening", extra={"url": url, "engine": settings.engine_id})
        yield Serving(url, engine)


@asynccontextmanager
async def _serving(
    engine: SimEngine,
    side_listener: socket.socket,
    lending: Lending,
    listener: socket.socket,
    membership: Membership | None,
) -> AsyncIterator[None]:
    """Listen on both sockets for the duration of the block, or until the engine crashes."""
    edge = Edge(engine)

    async def handle(request: Request, responder: Responder) -> None:
        if membership is None or not request.path.startswith(PREFIX):
            await edge.handle(request, responder)
            return
        try:
            await membership.handle(request, responder)
        except EngineFaultError as error:
            responder.send(error.status, [JSON], error.body())

    async with (
        serve(
            side_listener, lending.handle, SIDE_CHANNEL_LIMITS, answer_of_refusal, drain_seconds=0.0
        ) as side_server,
        serve(
            listener,
            handle,
            ENGINE_LIMITS,
            answer_of_refusal,
            drain_seconds=engine.settings.drain_seconds,
        ) as server,
        asyncio.TaskGroup() as tasks,
    ):

        async def end_with_a_crash() -> None:
            await engine.crashed.wait()
            _log.warning("crashed, as was ordered", extra={"engine": engine.settings.engine_id})
            await side_server.shutdown(0.0)
            await server.shutdown(CRASH_SECONDS)

        watching = tasks.create_task(end_with_a_crash())
        try:
            yield
        finally:
            watching.cancel()


def _publisher(settings: EngineSettings, stack: AsyncExitStack) -> KvPublisher | None:
    events = settings.kv_events
    if events is None:
        return None
    publisher = KvPublisher(
        stack.enter_context(zmq_context()),
        events.endpoint,
        events.replay_endpoint,
        topic=events.topic,
        encoding=events.encoding,
        buffer_count=events.buffer_count,
    )
    stack.callback(publisher.close)
    return publisher


@asynccontextmanager
async def open_engines(*settings: EngineSettings) -> AsyncIterator[list[Serving]]:
    """Serve several engines until the end of the block; each has its own state."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_engine(each)) for each in settings]
