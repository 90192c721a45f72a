"""The counts of all processes of a router, added up."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from twofold_router.processes.messages import AskReport, Message, Report
from twofold_router.tallies import Tallies, total

ANSWER_SECONDS = 0.5
"""For all processes together: a busy one answers within milliseconds."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """The sum at one moment."""

    tallies: Tallies
    connections: int
    answering: int
    """Processes whose counts are of now."""
    silent: int
    """Those whose counts are the last that they told of themselves."""
    ended: int
    """Those that have gone, ever; what they told last is part of the sum."""


class Gathering:
    """Counts never go down: of a process that dies without a word, only what it counted after its
    last report is missing, and it reports every second.

    Invariant: each process that ever reported is part of every sum, in ``_latest`` while it lives
    and in ``_ended_tallies`` afterwards.
    """

    def __init__(self, own: Tallies, answer_seconds: float = ANSWER_SECONDS) -> None:
        """*own* are the counts of this process."""
        self._own = own
        self._answer_seconds = answer_seconds
        self._send: dict[int, Callable[[Message], None]] = {}
        self._latest: dict[int, Report] = {}
        self._ended_tallies = Tallies()
        self._ended = 0
        self._rounds: list[_Round] = []

    def join(self, process: int, send: Callable[[Message], None]) -> None:
        """Take in *process*. It is asked from its first report on."""
        self._send[process] = send

    def take(self, process: int, report: Report) -> None:
        """Take what *process* tells, asked or not."""
        self._latest[process] = report
        self._note(process)

    def leave(self, process: int) -> None:
        """Keep what *process* has told."""
        del self._send[process]
        self._ended += 1
        latest = self._latest.pop(process, None)
        if latest is not None:
            self._ended_tallies = total([self._ended_tallies, latest.tallies])
        self._note(process)

    async def gather(self) -> Gathered:
        """Ask all processes, and add up what they have told within a bounded time."""
        asked = _Round(self._latest)
        self._rounds.append(asked)
        for process in self._latest:
            self._send[process](AskReport())
        try:
            await asked.end(self._answer_seconds)
        finally:
            self._rounds.remove(asked)
        return self._sum(silent=len(asked.awaited))

    def _sum(self, silent: int) -> Gathered:
        latest = self._latest.values()
        return Gathered(
            tallies=total([self._own, self._ended_tallies, *(each.tallies for each in latest)]),
            connections=sum(each.connections for each in latest),
            answering=len(latest) - silent,
            silent=silent,
            ended=self._ended,
        )

    def _note(self, process: int) -> None:
        for asked in self._rounds:
            asked.note(process)


class _Round:
    """One question to all, and those who have not answered it."""

    def __init__(self, processes: "dict[int, Report]") -> None:
        self.awaited = set(processes)
        self._ended = asyncio.Event()

    def note(self, process: int) -> None:
        self.awaited.discard(process)
        if not self.awaited:
            self._ended.set()

    async def end(self, timeout_seconds: float) -> None:
        """Wait for all, but no longer than *timeout_seconds*."""
        if self.awaited:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_seconds):
                    await self._ended.wait()
