"""Answering the questions that come over a connection."""

import asyncio
from collections.abc import Callable

from twofold_kvtransfer.lease import Reader
from twofold_kvtransfer.side_channel.frames import read_frame
from twofold_kvtransfer.side_channel.messages import (
    MAX_QUESTION_BYTES,
    Answer,
    Numbered,
    ProtocolError,
    Question,
    Unanswered,
    Unnumbered,
    decode_question,
    frame,
)
from twofold_kvtransfer.side_channel.slow_answers import SlowAnswers

TAKE_SECONDS = 10.0
"""A reader takes answers as they come. One that does not would keep places of others' questions."""


async def read_question(reader: asyncio.StreamReader, max_bytes: int) -> Question | None:
    """Read the next; None: the peer has ended the connection.

    Raises:
        ProtocolError: it is none, or too long.
    """
    payload = await read_frame(reader, max_bytes)
    return None if payload is None else decode_question(payload)


async def say(
    writer: asyncio.StreamWriter, answer: Answer, within_seconds: float = TAKE_SECONDS
) -> None:
    """Send *answer*, not faster than it is read.

    Raises:
        ProtocolError: what was said before is not read *within_seconds*.
    """
    writer.write(frame(answer))
    try:
        async with asyncio.timeout(within_seconds):
            await writer.drain()
    except TimeoutError as error:
        raise ProtocolError(f"answers are not read in {within_seconds:g} s") from error


async def answer_all(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    asker: Reader,
    slow: SlowAnswers,
    answer: Callable[[Unnumbered, Reader], Answer],
) -> None:
    """Answer the questions of *asker* until it has left: those with a number when *slow* has made
    the answers, the others with what *answer* returns, in order.

    Raises:
        ExceptionGroup: of ``ProtocolError`` and ``OSError``, when the connection is of no more use.
    """
    answering: set[asyncio.Task[None]] = set()

    async def answer_slowly(question: Numbered) -> None:
        await say(writer, await slow.answer(question, asker))

    async with asyncio.TaskGroup() as tasks:
        while (question := await read_question(reader, MAX_QUESTION_BYTES)) is not None:
            if not isinstance(question, Numbered):
                await say(writer, answer(question, asker))
            elif (reason := slow.why_none(question, asker)) is not None:
                await say(writer, Unanswered(question.number, reason))
            else:
                task = tasks.create_task(answer_slowly(question))
                slow.start(question, task)
                answering.add(task)
                task.add_done_callback(answering.discard)
        for task in answering:  # nobody waits for them any more
            task.cancel()
