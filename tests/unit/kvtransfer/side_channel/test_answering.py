"""Answers on their way."""

import asyncio

import pytest

from twofold_kvtransfer.side_channel.answering import say
from twofold_kvtransfer.side_channel.messages import Done, ProtocolError


class Unread:
    """A connection whose peer reads nothing."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None:
        await asyncio.Event().wait()


async def test_who_reads_no_answers_is_not_waited_for() -> None:
    with pytest.raises(ProtocolError, match="not read"):
        await say(Unread(), Done(), within_seconds=0.001)  # type: ignore[arg-type]
