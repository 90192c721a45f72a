"""The placement process' side of all links: one placement, one count of limits, one sum."""

import asyncio
from collections.abc import Sequence

from twofold_cluster.worker import Worker
from twofold_router.access import Limiter, RateLimitedError
from twofold_router.gateway import Dispatcher
from twofold_router.gateway.background import Background
from twofold_router.processes.clerk import Clerk
from twofold_router.processes.exposing import router_text
from twofold_router.processes.gathering import Gathering
from twofold_router.processes.link import Link
from twofold_router.processes.messages import (
    Admit,
    Admitted,
    AskMetrics,
    Denied,
    Message,
    MetricsText,
    Report,
    Settle,
    Stale,
    Suspect,
)

STALE_CHECK_SECONDS = 0.25


class Sessions(set["Session"]):
    """The gateway processes that there are."""

    def follow(self, changed: Sequence[Worker], gone: Sequence[Worker]) -> None:
        """Tell all of workers."""
        for session in self:
            session.clerk.follow(changed, gone)

    def tell(self, message: Message, *, but: "Session | None" = None) -> None:
        """Send *message* to all, without *but*."""
        for session in self:
            if session is not but:
                session.link.send(message)


class Office:
    """What all sessions share."""

    def __init__(
        self,
        sessions: Sessions,
        dispatcher: Dispatcher,
        limiter: Limiter,
        gathering: Gathering,
        background: Background,
    ) -> None:
        self.sessions = sessions
        self.dispatcher = dispatcher
        self.limiter = limiter
        self.gathering = gathering
        self.background = background
        self._told_stale = dispatcher.is_stale

    async def run(self) -> None:
        """Follow the membership's state, until cancelled."""
        while True:
            await asyncio.sleep(STALE_CHECK_SECONDS)
            self.tell_if_stale()

    def tell_if_stale(self) -> None:
        """Tell all, if the membership has become stale, or no longer is."""
        is_stale = self.dispatcher.is_stale
        if is_stale != self._told_stale:
            self._told_stale = is_stale
            self.sessions.tell(Stale(is_stale))

    async def metrics_text(self) -> bytes:
        """Write the metrics of the whole router."""
        return router_text(await self.gathering.gather(), self.dispatcher)


class Session:
    """One gateway process, from the moment its link is connected until that is lost."""

    def __init__(self, office: Office, process: int) -> None:
        self.link = Link()
        self.clerk = Clerk(office.dispatcher, self.link.send)
        self._office = office
        self._process = process
        self._has_reported = False
        self.link.receive(
            {
                **self.clerk.handlers(),
                Suspect: self._suspect,
                Admit: self._admit,
                Settle: self._settle,
                Report: self._report,
                AskMetrics: self._ask_metrics,
            },
            on_lost=self._end,
        )

    def begin(self) -> None:
        self._office.sessions.add(self)
        self._office.gathering.join(self._process, self.link.send)
        self.clerk.welcome()

    def has_reported(self) -> bool:
        """Return True if the process has, since this was asked last."""
        has_reported, self._has_reported = self._has_reported, False
        return has_reported

    def _end(self) -> None:
        self._office.sessions.discard(self)
        self._office.gathering.leave(self._process)
        self.clerk.close()

    def _suspect(self, message: Suspect) -> None:
        self._office.sessions.tell(message, but=self)
        self.clerk.suspect(message)

    def _admit(self, message: Admit) -> None:
        self._office.background.start(self._answer_admit(message))

    async def _answer_admit(self, message: Admit) -> None:
        answer: Message
        try:
            admission = await self._office.limiter.admit(
                message.name, message.limits, message.tokens
            )
            answer = Admitted(message.question, admission)
        except RateLimitedError as error:
            answer = Denied(
                message.question, error.message, error.retry_after_seconds, error.headers
            )
        self.link.send(answer)

    def _settle(self, message: Settle) -> None:
        self._office.limiter.settle(message.admission, message.tokens)

    def _report(self, message: Report) -> None:
        self._has_reported = True
        self._office.gathering.take(self._process, message)

    def _ask_metrics(self, message: AskMetrics) -> None:
        self._office.background.start(self._answer_metrics(message))

    async def _answer_metrics(self, message: AskMetrics) -> None:
        self.link.send(MetricsText(message.question, await self._office.metrics_text()))
