"""Keeps gateway processes alive: starts them, starts again those that end, and ends them all."""

import asyncio
import itertools
import logging
import socket
import time
from asyncio.subprocess import DEVNULL, Process, create_subprocess_exec
from collections.abc import Sequence
from contextlib import suppress

from twofold_router.processes.assignment import Assignment
from twofold_router.processes.backoff import Backoff
from twofold_router.processes.messages import Drain
from twofold_router.processes.office import Office, Session

CHECK_SECONDS = 1.0

HUNG_CHECKS = 30
"""So many in a row without a report, of which there is one a second. Such a process cannot serve,
and holds places that others could have."""

_log = logging.getLogger(__name__)


class Keeper:
    """Owns the gateway processes."""

    def __init__(
        self,
        command: Sequence[str],
        listeners: Sequence[socket.socket],
        office: Office,
        end_seconds: float,
    ) -> None:
        """*command* starts a gateway process, with an ``Assignment`` as its last argument, for each
        of *listeners*. One that has not ended *end_seconds* after it was asked to is killed."""
        self._command = command
        self._listeners = listeners
        self._office = office
        self._end_seconds = end_seconds
        self._serial = itertools.count(1)

    async def run(self, stop: asyncio.Event) -> None:
        """Have the processes serve until *stop* is set, and wait for their ends."""
        async with asyncio.TaskGroup() as tasks:
            for listener in self._listeners:
                tasks.create_task(self._keep(listener, stop))
            await stop.wait()
            # Those who come now are refused, and do not wait for nobody.
            for listener in self._listeners:
                listener.close()

    async def _keep(self, listener: socket.socket, stop: asyncio.Event) -> None:
        backoff = Backoff()
        while not stop.is_set():
            began_at = time.monotonic()
            process = next(self._serial)
            try:
                code = await self._live(process, listener, stop)
            except OSError as error:  # too many processes or descriptors, perhaps not for long
                code = error.errno
            if stop.is_set():
                return
            pause = backoff.after(time.monotonic() - began_at)
            extra = {"gateway": process, "code": code, "pause_seconds": pause}
            _log.warning("a gateway process ended", extra=extra)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stop.wait()

    async def _live(self, number: int, listener: socket.socket, stop: asyncio.Event) -> int | None:
        """Run one process. Returns its exit code."""
        process, session = await self._start(number, listener)
        ended = asyncio.create_task(process.wait())
        try:
            await self._watch(process, session, ended, stop)
            session.link.send(Drain())
            with suppress(TimeoutError):
                async with asyncio.timeout(self._end_seconds):
                    return await asyncio.shield(ended)
            _log.error("a gateway process does not end", extra={"pid": process.pid})
            process.kill()
            return await ended
        finally:
            ended.cancel()
            await session.link.close()

    async def _watch(
        self,
        process: Process,
        session: Session,
        ended: "asyncio.Task[int]",
        stop: asyncio.Event,
    ) -> None:
        """Wait until *process* has *ended* or is to *stop*; and end it, if it hangs."""
        stopping = asyncio.create_task(stop.wait())
        silent_checks = 0
        try:
            while not (stopping.done() or ended.done()):
                await asyncio.wait(
                    (stopping, ended), timeout=CHECK_SECONDS, return_when="FIRST_COMPLETED"
                )
                # Checks are counted and not seconds, of which many pass for a process that is
                # stopped together with this one.
                silent_checks = 0 if session.has_reported() else silent_checks + 1
                if silent_checks > HUNG_CHECKS:
                    _log.error("a gateway process hangs", extra={"pid": process.pid})
                    process.kill()
        finally:
            stopping.cancel()

    async def _start(self, number: int, listener: socket.socket) -> tuple[Process, Session]:
        ours, theirs = socket.socketpair()
        with theirs:
            assignment = Assignment(number, listener.fileno(), theirs.fileno())
            try:
                process = await create_subprocess_exec(
                    *self._command,
                    str(assignment),
                    stdin=DEVNULL,
                    pass_fds=(assignment.listener, assignment.link),
                )
            except OSError:
                ours.close()
                raise
        session = Session(self._office, number)
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: session.link, sock=ours)
        session.begin()
        return process, session
