"""A router put together: who follows the workers, who places, who serves."""

import asyncio
import logging
import re
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence, Set
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from twofold_cluster.identity import WorkerId
from twofold_cluster.membership import Roster, connect
from twofold_cluster.worker import Worker, WorkerState
from twofold_router.access import (
    Accounts,
    InvalidAccessError,
    Keyring,
    Limiter,
    LocalLimiter,
    SharedLimiter,
)
from twofold_router.gateway import Admitting, Dispatcher, Gateway, listen, open_gateway
from twofold_router.http import open_client
from twofold_router.kv_events import Followers
from twofold_router.metrics import Metrics, RouterSnapshot, metrics_text
from twofold_router.placement import make_placement
from twofold_router.settings import InvalidSettingError, RouterSettings
from twofold_router.static_workers import StaticWorkers, fetch_with

_log = logging.getLogger(__name__)

_PASSWORD = re.compile("//[^/]*@")

Follow = Callable[[Sequence[Worker], Sequence[Worker]], None]
"""Takes workers that changed, and those that have gone."""


async def run_router(settings: RouterSettings) -> None:
    """Follow the workers and serve, all in this process, until a signal comes.

    Raises:
        CannotListenError: the address cannot be had.
        InvalidSettingError: the Redis URL is none, or the file of keys cannot be used.
    """
    stop = stop_event()
    metrics = Metrics()
    gateway: Gateway | None = None
    failing: dict[WorkerId, str] = {}
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(listen(settings.host, settings.port))
        redis = await stack.enter_async_context(open_redis(settings))
        dispatcher = await stack.enter_async_context(
            open_dispatcher(settings, redis, metrics, failing=failing)
        )
        limiter = await stack.enter_async_context(open_limiter(settings, redis, metrics))
        admitting = await stack.enter_async_context(
            open_admitting(settings, limiter, limiter.keep_only, metrics.key_reload)
        )

        async def read_metrics() -> bytes:
            now = dispatcher.snapshot()
            connections = gateway.server.connections if gateway else 0
            return metrics_text(
                RouterSnapshot(
                    metrics.tallies, now.placement, now.workers, dispatcher.is_stale, connections
                )
            )

        gateway = await stack.enter_async_context(
            open_gateway(settings, dispatcher, admitting, metrics, read_metrics, listener)
        )
        gateway.readiness.failing = failing
        await stop.wait()
        await gateway.leave(stop)
    _log.info("stopped")


def stop_event(
    numbers: Iterable[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
) -> asyncio.Event:
    """Return an event that the signals *numbers* set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in numbers:
        loop.add_signal_handler(number, stop.set)
    return stop


@asynccontextmanager
async def open_redis(settings: RouterSettings) -> AsyncIterator["Redis | None"]:
    """Open Redis, if the router is one of a service."""
    if not settings.service:
        yield None
        return
    try:
        redis = connect(settings.redis_url)
    except ValueError as error:
        url = _PASSWORD.sub("//…@", settings.redis_url)
        raise InvalidSettingError(f"redis_url is {url!r}: {error}") from error
    async with redis:
        yield redis


@asynccontextmanager
async def open_dispatcher(
    settings: RouterSettings,
    redis: "Redis | None",
    metrics: Metrics,
    follow_too: Follow = lambda changed, gone: None,
    *,
    failing: dict[WorkerId, str] | None = None,
) -> AsyncIterator[Dispatcher]:
    """Place requests on the workers that Redis, or the settings, tell of.

    *follow_too* is told of them when they were placed on. In *failing* is kept what is wrong with
    those of the settings that do not answer as they should.
    """
    placement = make_placement(settings.policy, settings.placement())
    dispatcher = Dispatcher(
        placement,
        suspect_seconds=settings.suspect_seconds,
        keeps_names=bool(settings.workers),
        observe=metrics.placement,
    )

    followers = Followers(dispatcher.blocks_changed, metrics.kv_events)

    def follow(changed: Sequence[Worker], gone: Sequence[Worker]) -> None:
        dispatcher.follow(changed, gone)
        followers.follow(changed, gone)
        for worker in gone:
            if worker.state is not WorkerState.DRAINING:
                metrics.worker_loss(worker.role)
        follow_too(changed, gone)

    async with AsyncExitStack() as stack:
        if redis is not None:
            roster = Roster(redis, settings.service, on_change=follow)
            dispatcher.stale_if(lambda: roster.stale)
            following = roster.run()
        else:
            client = await stack.enter_async_context(open_client(settings.client_limits()))
            static = StaticWorkers(
                settings.workers,
                fetch_with(client, settings.engine_headers()),
                service=settings.service,
                on_change=follow,
                failing=failing,
            )
            following = static.run()
        await stack.enter_async_context(running(following, followers.run(), dispatcher.run()))
        yield dispatcher


@asynccontextmanager
async def open_limiter(
    settings: RouterSettings, redis: "Redis | None", metrics: Metrics
) -> AsyncIterator[LocalLimiter | SharedLimiter]:
    """Count what the keys ask for, in Redis where there is one."""
    if settings.keys_file is None or redis is None:
        yield LocalLimiter()
        return
    limiter = SharedLimiter(Accounts(redis, settings.service), on_alone=metrics.limit_alone)
    async with running(limiter.run()):
        yield limiter


@asynccontextmanager
async def open_admitting(
    settings: RouterSettings,
    limiter: Limiter,
    keep_only: Callable[[Set[str]], None],
    on_reload: Callable[[str], None],
) -> AsyncIterator[Admitting]:
    """Know the callers by their keys, if there is a file of them.

    *keep_only* is told the names of the keys when they change, *on_reload* what came of reading
    the file again.
    """
    if settings.keys_file is None:
        yield Admitting(settings.classes, None, limiter)
        return
    try:
        keyring = Keyring(
            settings.keys_file, settings.classes, on_change=keep_only, on_reload=on_reload
        )
    except InvalidAccessError as error:
        raise InvalidSettingError(str(error)) from error
    async with running(keyring.run()):
        yield Admitting(settings.classes, keyring, limiter)


@asynccontextmanager
async def running(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do *work* beside the block, and end with it. What the block raises is raised as it is."""
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in work]
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised below, where no group wraps it
            failure = error
        finally:
            for task in tasks:
                task.cancel()
    if failure is not None:
        raise failure
