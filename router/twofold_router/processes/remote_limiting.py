"""Limits that hold over all processes of a router: the placement process counts them."""

from collections.abc import Callable

from twofold_cluster.errors import Fault, RequestError
from twofold_router.access import Admission, Limits, RateLimitedError
from twofold_router.processes.link import Handlers
from twofold_router.processes.messages import Admit, Admitted, Denied, Message, Settle
from twofold_router.processes.questions import Questions


class RemoteLimiter:
    """Implements Limiter with messages."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._questions: Questions[Admission] = Questions()

    async def admit(self, name: str, limits: Limits, tokens: int) -> Admission:
        """See ``Limiter``.

        Raises:
            RequestError: also when the placement process does not answer, or has gone.
        """
        return await self._questions.ask(
            lambda number: self._send(Admit(number, name, limits, tokens))
        )

    def settle(self, admission: Admission, tokens: int) -> None:
        self._send(Settle(admission, tokens))

    def handlers(self) -> Handlers:
        return {Admitted: self._take_admitted, Denied: self._take_denied}

    def _take_admitted(self, message: Admitted) -> None:
        self._questions.answer(message.question, message.admission)

    def _take_denied(self, message: Denied) -> None:
        self._questions.answer(message.question, ToldLimitedError(message))

    def lose(self) -> None:
        self._questions.lose()


class ToldLimitedError(RateLimitedError):
    """A ``RateLimitedError`` of another process."""

    def __init__(self, denied: Denied) -> None:
        RequestError.__init__(
            self,
            Fault.QUEUE_FULL,
            denied.message,
            retry_after_seconds=denied.retry_after_seconds,
        )
        self.headers = denied.headers
