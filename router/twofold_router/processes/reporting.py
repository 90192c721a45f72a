"""What a gateway process tells of its counts, and how it learns those of all."""

import asyncio
from collections.abc import Callable

from twofold_router.processes.link import Handlers
from twofold_router.processes.messages import AskMetrics, AskReport, Message, MetricsText, Report
from twofold_router.processes.questions import Questions
from twofold_router.tallies import Tallies

REPORT_SECONDS = 1.0
"""What a process counted since is lost when it is killed."""


class Reporting:
    """Tells the placement process of *tallies* every second, and when it asks."""

    def __init__(self, send: Callable[[Message], None], tallies: Tallies) -> None:
        self._send = send
        self._tallies = tallies
        self.count_connections: Callable[[], int] = lambda: 0
        """To be set as soon as there may be some."""
        self._questions: Questions[bytes] = Questions()

    async def run(self) -> None:
        """Report until cancelled, and then a last time."""
        try:
            while True:
                self.report()
                await asyncio.sleep(REPORT_SECONDS)
        finally:
            self.report()

    def report(self) -> None:
        self._send(Report(self._tallies, self.count_connections()))

    async def read_metrics(self) -> bytes:
        """Return the metrics of the whole router.

        Raises:
            RequestError: the placement process does not answer, or has gone.
        """
        return await self._questions.ask(lambda number: self._send(AskMetrics(number)))

    def handlers(self) -> Handlers:
        return {AskReport: self._take_question, MetricsText: self._take_text}

    def _take_question(self, _: AskReport) -> None:
        self.report()

    def _take_text(self, message: MetricsText) -> None:
        self._questions.answer(message.question, message.text)

    def lose(self) -> None:
        self._questions.lose()
