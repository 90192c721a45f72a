"""The placement process, which the user starts and which starts the others."""

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack

from twofold_router.gateway import url_of
from twofold_router.gateway.background import open_background
from twofold_router.metrics import Metrics
from twofold_router.processes.assignment import GATEWAY_FLAG
from twofold_router.processes.ending import end_seconds
from twofold_router.processes.gathering import Gathering
from twofold_router.processes.keeping import Keeper
from twofold_router.processes.listening import listen_together
from twofold_router.processes.office import Office, Sessions
from twofold_router.running import (
    open_admitting,
    open_dispatcher,
    open_limiter,
    open_redis,
    running,
    stop_event,
)
from twofold_router.settings import RouterSettings

BACKGROUND_DRAIN_SECONDS = 1.0
"""For answers that nobody is left to hear."""

_log = logging.getLogger(__name__)


async def run_processes(settings: RouterSettings, command: Sequence[str]) -> None:
    """Place for ``settings.processes`` gateway processes until a signal comes.

    They are started with *command*, by which this process was started, and so have its settings.

    Raises:
        CannotListenError: the address cannot be had.
        InvalidSettingError: the Redis URL is none, or the file of keys cannot be used.
    """
    stop = stop_event()
    listeners = listen_together(settings.host, settings.port, settings.processes)
    metrics = Metrics()
    sessions = Sessions()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        for listener in listeners:
            stack.enter_context(listener)
        redis = await enter(open_redis(settings))
        dispatcher = await enter(open_dispatcher(settings, redis, metrics, sessions.follow))
        limiter = await enter(open_limiter(settings, redis, metrics))
        await enter(open_admitting(settings, limiter, limiter.keep_only, metrics.key_reload))
        background = await enter(open_background(BACKGROUND_DRAIN_SECONDS))
        gathering = Gathering(metrics.tallies)
        office = Office(sessions, dispatcher, limiter, gathering, background)
        await enter(running(office.run()))
        keeper = Keeper([*command, GATEWAY_FLAG], listeners, office, end_seconds(settings))
        extra = {"url": url_of(listeners[0]), "processes": settings.processes}
        _log.info("placing", extra=extra)
        await keeper.run(stop)
    _log.info("stopped")
