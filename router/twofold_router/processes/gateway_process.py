"""One gateway process: it serves clients, and asks the placement process for all that is shared."""

import asyncio
import logging
import signal
import socket

from twofold_router.gateway import open_gateway
from twofold_router.metrics import Metrics
from twofold_router.processes.assignment import Assignment
from twofold_router.processes.ending import end_seconds
from twofold_router.processes.link import Link
from twofold_router.processes.messages import Drain
from twofold_router.processes.remote_desk import RemoteDesk
from twofold_router.processes.remote_limiting import RemoteLimiter
from twofold_router.processes.reporting import Reporting
from twofold_router.running import open_admitting, running, stop_event
from twofold_router.settings import RouterSettings

WELCOME_SECONDS = 30.0
"""Connecting and one message: more only on a machine that is far too busy."""

_log = logging.getLogger(__name__)


async def run_gateway_process(settings: RouterSettings, assignment: Assignment) -> None:
    """Serve until the placement process tells to end, or has gone, or SIGTERM comes.

    In all three cases what is in flight goes on for as long as a drain may take.

    Raises:
        InvalidSettingError: the file of keys cannot be used any more.
        TimeoutError: the placement process says nothing.
    """
    # Ctrl-C goes to all processes of a terminal; the placement process says what follows from it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = stop_event((signal.SIGTERM,))
    home = Home(assignment, settings, stop)
    listener = socket.socket(fileno=assignment.listener)
    await home.connect(socket.socket(fileno=assignment.link))
    try:
        async with (
            running(home.reporting.run()),
            open_admitting(settings, home.limiter, _ignore, _ignore) as admitting,
            open_gateway(
                settings, home.desk, admitting, home.metrics, home.reporting.read_metrics, listener
            ) as gateway,
        ):
            home.reporting.count_connections = lambda: gateway.server.connections
            await stop.wait()
            home.is_leaving = True
            if not home.is_lost:
                await gateway.leave(stop)
            # Whatever hangs from here on, nobody is left to look for it if the parent has gone.
            signal.alarm(end_seconds(settings))
    finally:
        await home.link.close()
    _log.info("stopped")


def _ignore(_: object) -> None:
    """The placement process reads the file of keys too, and does what is done once for all."""


class Home:
    """The placement process, as a gateway process sees it."""

    def __init__(self, assignment: Assignment, settings: RouterSettings, stop: asyncio.Event):
        self.metrics = Metrics()
        self.link = Link()
        send = self.link.send
        self.desk = RemoteDesk(
            assignment.process,
            send,
            suspect_seconds=settings.suspect_seconds,
            keeps_names=bool(settings.workers),
        )
        self.limiter = RemoteLimiter(send)
        self.reporting = Reporting(send, self.metrics.tallies)
        self.is_lost = False
        """Set once nobody places any more."""
        self.is_leaving = False
        """Set once it was told to end: so is the placement process, which may be sooner."""
        self._stop = stop
        self.link.receive(
            {
                **self.desk.handlers(),
                **self.limiter.handlers(),
                **self.reporting.handlers(),
                Drain: lambda _: stop.set(),
            },
            on_lost=self._lose,
        )

    async def connect(self, connection: socket.socket) -> None:
        """Connect, and learn of the workers."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(WELCOME_SECONDS):
            await loop.create_unix_connection(lambda: self.link, sock=connection)
            await self.desk.welcomed.wait()

    def _lose(self) -> None:
        if not (self.is_leaving or self._stop.is_set()):
            _log.error("the placement process has gone; ending")
        self.is_lost = True
        self.desk.lose()
        self.limiter.lose()
        self.reporting.lose()
        self._stop.set()
