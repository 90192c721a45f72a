"""A connection over which a peer is asked, and who waits for which answer."""

import asyncio
from collections import deque
from typing import TypeVar

from twofold_kvtransfer.side_channel.connecting import ChannelError, Stream
from twofold_kvtransfer.side_channel.frames import read_frame
from twofold_kvtransfer.side_channel.messages import (
    Answer,
    Numbered,
    NumberedAnswer,
    ProtocolError,
    Question,
    Unanswered,
    decode_answer,
    frame,
)

MAX_UNANSWERED = 4096
"""Questions with a number that a peer may owe answers to, also such as nobody waits for any more.
One that lives refuses before (``slow_answers.MAX_SLOW_ANSWERS`` of each kind)."""

A = TypeVar("A", bound=Answer)


class Calls:
    """Questions to one peer, and its answers.

    Answers come in the order of the questions, but those with a number: they are made in their own
    time, so ``_numbered`` has who waits for each. The connection is lost once, for a reason that
    stays; what was asked then fails at once, and what is asked later.
    """

    def __init__(self, stream: Stream, name: str, answer_seconds: float) -> None:
        self.name = name
        self._reader, self._writer = stream
        self._answer_seconds = answer_seconds
        self._asked: deque[asyncio.Future[Answer]] = deque()
        self._numbered: dict[int, asyncio.Future[NumberedAnswer]] = {}
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._watching = asyncio.create_task(self._watch())

    @property
    def is_lost(self) -> bool:
        return self._lost.done()

    async def until_lost(self) -> str:
        """Wait for the connection's end, and return the reason."""
        return await asyncio.shield(self._lost)

    async def until_closed(self) -> None:
        """Wait until nothing is read any more, after :meth:`close`."""
        await self._watching

    async def ask(self, question: Question) -> Answer:
        """Raises:
        ChannelError: the peer has gone, or does not answer in time.
        """
        self._check()
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked.append(answer)
        self._writer.write(frame(question))
        try:
            async with asyncio.timeout(self._answer_seconds):
                return await answer
        except TimeoutError as error:
            raise self._silent() from error

    def ask_numbered(self, question: Numbered) -> "asyncio.Future[NumberedAnswer]":
        """Ask for what takes as long as the peer takes; how long that may be is for the caller.

        Raises:
            ChannelError: the peer has gone, or owes too many answers.
        """
        self._check()
        if len(self._numbered) >= MAX_UNANSWERED:
            raise self._silent()
        answer = self._numbered[question.number] = asyncio.get_running_loop().create_future()
        self._writer.write(frame(question))
        return answer

    def expect(self, answer: Answer, kind: type[A]) -> A:
        """Return *answer* if it is of this *kind*.

        Raises:
            ChannelError: it is not, and the peer is lost; or it says why there is none.
        """
        if isinstance(answer, Unanswered):
            raise ChannelError(f"{self.name} does not answer: {answer.reason}")
        if not isinstance(answer, kind):
            raise self.misspoken(f"answers {type(answer).__name__}")
        return answer

    def misspoken(self, how: str) -> ChannelError:
        """Lose a peer that does not speak as it must, and return the error that says so."""
        self.close("it does not speak as it must")
        return ChannelError(f"{self.name} {how}")

    def close(self, reason: str) -> None:
        """Lose the peer for *reason*, unless it is lost already."""
        if self._lost.done():
            return
        self._lost.set_result(f"{self.name}: {reason}")
        for asked in self._asked:
            _fail(asked, self._lost.result())
        for numbered in self._numbered.values():
            _fail(numbered, self._lost.result())
        self._asked.clear()
        self._numbered.clear()
        self._writer.transport.abort()

    def _check(self) -> None:
        if self._lost.done():
            raise ChannelError(self._lost.result())

    def _silent(self) -> ChannelError:
        self.close("it does not answer")
        return ChannelError(f"{self.name} does not answer")

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

    def _take(self, answer: Answer) -> None:
        if isinstance(answer, NumberedAnswer):
            numbered = self._numbered.pop(answer.number, None)
            if numbered is None:
                raise ProtocolError("an answer with a number that nobody asked for")
            if not numbered.done():  # nobody waits any more
                numbered.set_result(answer)
            return
        if not self._asked:
            raise ProtocolError("an answer that nobody asked for")
        asked = self._asked.popleft()
        if not asked.done():
            asked.set_result(answer)


def _fail(asked: "asyncio.Future[A]", reason: str) -> None:
    if not asked.done():
        asked.set_exception(ChannelError(reason))
        asked.exception()  # known to be seen, also if nobody waits any more
