"""The side of the channel that reads blocks."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.side_channel.frames import notice_end, read_frame
from twofold_kvtransfer.side_channel.messages import (
    MAX_LEASES_PER_MESSAGE,
    Answer,
    Claim,
    Claimed,
    Done,
    GiveBack,
    Hello,
    ProtocolError,
    Question,
    Refused,
    Welcome,
    decode_answer,
    frame,
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a peer is waited for."""

    connect_seconds: float = 5.0
    answer_seconds: float = 5.0
    """An answer takes no I/O; the other process may be short of a core, or stopped."""


A = TypeVar("A", bound=Answer)


class ChannelError(TwofoldError):
    """The peer cannot be reached, refuses this reader, or has gone."""


class Channel:
    """A connection to the engine process that holds blocks.

    Answers come in the order of the questions. It is lost once, for a reason that stays; what was
    asked then fails at once, and what is asked later.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        name: str,
        answer_seconds: float,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._name = name
        self._answer_seconds = answer_seconds
        self._asked: deque[asyncio.Future[Answer]] = deque()
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._watching = asyncio.create_task(self._watch())

    @property
    def name(self) -> str:
        """``host:port`` of the peer."""
        return self._name

    @classmethod
    async def connect(cls, host: str, port: int, patience: Patience) -> "Channel":
        """Connect; to be used as a context, which closes it.

        Raises:
            ChannelError: nobody listens there.
        """
        name = f"{host}:{port}"
        try:
            async with asyncio.timeout(patience.connect_seconds):
                reader, writer = await asyncio.open_connection(host, port)
        # A name that cannot be resolved, or a port beyond all, is a ValueError or an OverflowError.
        except (OSError, ValueError, OverflowError) as error:
            reason = "no answer" if isinstance(error, TimeoutError) else str(error)
            raise ChannelError(f"no connection to {name}: {reason}") from error
        notice_end(writer)
        return cls(reader, writer, name, patience.answer_seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *args: object) -> None:
        self.close("it was closed")
        await self._watching

    async def until_lost(self) -> str:
        """Wait for its end, and return the reason."""
        return await asyncio.shield(self._lost)

    async def greet(self, hello: Hello) -> Welcome:
        """Say who reads, and learn what there is.

        Raises:
            ChannelError: the peer refuses, with its reason.
        """
        answer = await self._ask(hello)
        if isinstance(answer, Refused):
            raise ChannelError(f"{self._name} refuses: {answer.reason}")
        return self._expect(answer, Welcome)

    async def claim(self, request_ids: Sequence[str]) -> list[float | None]:
        """Renew leases; return for how many seconds from the call each is held, None: it is not.

        Raises:
            ChannelError: the peer has gone.
        """
        seconds: list[float | None] = []
        for some in _portions(request_ids):
            answer = self._expect(await self._ask(Claim(some)), Claimed)
            if len(answer.seconds) != len(some):
                self.close("it does not speak as it must")
                raise ChannelError(f"{self._name} answers {len(answer.seconds)} of {len(some)}")
            seconds += answer.seconds
        return seconds

    async def give_back(self, request_ids: Sequence[str]) -> None:
        """Raises:
        ChannelError: the peer has gone, and with it the blocks; or they expire.
        """
        for some in _portions(request_ids):
            self._expect(await self._ask(GiveBack(some)), Done)

    def close(self, reason: str) -> None:
        """Lose it for *reason*, unless it is lost already."""
        if self._lost.done():
            return
        self._lost.set_result(f"{self._name}: {reason}")
        for asked in self._asked:
            if not asked.done():
                asked.set_exception(ChannelError(self._lost.result()))
        self._asked.clear()
        self._writer.transport.abort()

    async def _watch(self) -> None:
        """Take answers until the connection ends."""
        reason = "it has gone"
        try:
            while (payload := await read_frame(self._reader)) is not None:
                self._take(decode_answer(payload))
        except (OSError, ProtocolError) as error:
            reason = str(error)
        finally:
            self.close(reason)

    async def _ask(self, question: Question) -> Answer:
        if self._lost.done():
            raise ChannelError(self._lost.result())
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self._writer.write(frame(question))
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await answer
        except TimeoutError as error:
            self.close("it does not answer")
            raise ChannelError(f"{self._name} does not answer") from error

    def _take(self, answer: Answer) -> None:
        if not self._asked:
            raise ProtocolError("an answer that nobody asked for")
        asked = self._asked.popleft()
        if not asked.done():  # nobody waits any more
            asked.set_result(answer)

    def _expect(self, answer: Answer, kind: type[A]) -> A:
        if not isinstance(answer, kind):
            self.close("it does not speak as it must")
            raise ChannelError(f"{self._name} answers {type(answer).__name__}")
        return answer


def _portions(request_ids: Sequence[str]) -> list[list[str]]:
    return [
        list(request_ids[start : start + MAX_LEASES_PER_MESSAGE])
        for start in range(0, len(request_ids), MAX_LEASES_PER_MESSAGE)
    ]
