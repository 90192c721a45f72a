"""Answers that take their time: what blocks hold, and which of them the prefix cache has."""

import asyncio
from collections import Counter
from collections.abc import Callable

from twofold_kvtransfer.blocks import InvalidBlocksError
from twofold_kvtransfer.digesting import Digester
from twofold_kvtransfer.lease import Reader
from twofold_kvtransfer.side_channel.messages import (
    MAX_BLOCK_NAME_BYTES,
    MAX_BLOCKS_PER_MESSAGE,
    Digest,
    Digested,
    Look,
    Numbered,
    NumberedAnswer,
    ProtocolError,
    Recheck,
    Rechecked,
    Seen,
    Unanswered,
)
from twofold_kvtransfer.viewing import NoViewError, View

MAX_SLOW_ANSWERS = 1024
"""Questions with a number of each kind that are answered at a time, of all readers. What they name
is some 200 MB at most, of a kind; a prompt takes milliseconds."""

MAX_UNLEASED_BLOCKS = 32 * MAX_BLOCKS_PER_MESSAGE
"""That nobody keeps, and whose digests are being made: of blocks of 1 MiB some seconds of work. Who
would have to wait longer has computed them by then."""


class SlowAnswers:
    """Answers questions that carry a number, of each kind at most ``max_count`` at a time.

    Kinds are bounded apart, so that those who look for prefixes take nothing from transfers whose
    blocks are kept, nor from those who have read already. Digests of blocks that are kept are made
    before those of others.
    """

    def __init__(
        self,
        claim: Callable[[str, Reader], float | None],
        digester: Digester | None,
        view: View,
        *,
        max_count: int,
    ) -> None:
        """*claim* renews a lease, or returns None. Without *digester* the blocks are not in host
        memory. *view* is of the engine's prefix cache."""
        self._claim = claim
        self._digester = digester
        self._view = view
        self._max_count = max_count
        self._counts: Counter[type[Numbered]] = Counter()
        self._unleased_blocks = 0

    @property
    def count(self) -> int:
        """How many are being made, of all kinds."""
        return self._counts.total()

    def why_none(self, question: Numbered, reader: Reader) -> str | None:
        """Say why *reader* gets no answer; None when it does, and holds its lease longer for that.

        Raises:
            ProtocolError: *question* is none of this protocol.
        """
        _check(question)
        is_full = self._counts[type(question)] >= self._max_count
        if is_full or self._unleased_blocks + _unleased(question) > MAX_UNLEASED_BLOCKS:
            return "too much is asked at a time"
        if isinstance(question, Digest) and self._claim(question.request_id, reader) is None:
            return "the blocks are not kept for this reader"
        return None

    def start(self, question: Numbered, answering: "asyncio.Task[None]") -> None:
        """Count *answering* the *question* until it has ended."""
        self._count(question, 1)
        answering.add_done_callback(lambda _: self._count(question, -1))

    async def answer(self, question: Numbered, reader: Reader) -> NumberedAnswer:
        try:
            match question:
                case Digest(number, _, blocks):
                    return Digested(number, await self._digests().digest(blocks, reader.part))
                case Look():
                    return await self._look(question)
                case Recheck():
                    return await self._recheck(question, reader.part)
        except (InvalidBlocksError, NoViewError, _NoAnswerError) as error:
            return Unanswered(question.number, str(error))

    def _count(self, question: Numbered, change: int) -> None:
        self._counts[type(question)] += change
        self._unleased_blocks += change * _unleased(question)

    async def _look(self, question: Look) -> Seen:
        blocks, versions = await self._view.look(question.names)
        return Seen(question.number, list(blocks), list(versions))

    async def _recheck(self, question: Recheck, part: tuple[int, int]) -> Rechecked:
        digests = []
        if question.digest:
            # What they hold first: a change meanwhile is told too.
            digests = await self._digests().digest_unhurried(question.blocks, part)
        unchanged = await self._view.unchanged(question.names, question.blocks, question.versions)
        return Rechecked(question.number, unchanged, digests)

    def _digests(self) -> Digester:
        if self._digester is None:
            raise _NoAnswerError("the blocks are not in host memory")
        return self._digester


class _NoAnswerError(Exception):
    """Told to who asks."""


def _unleased(question: Numbered) -> int:
    """Return how many blocks that nobody keeps are to be digested."""
    return len(question.blocks) if isinstance(question, Recheck) and question.digest else 0


def _check(question: Numbered) -> None:
    counts = {
        len(listed)
        for name in ("names", "blocks", "versions")
        if (listed := getattr(question, name, None)) is not None
    }
    if len(counts) > 1:
        raise ProtocolError("not as many blocks as names and versions")
    if max(counts) > MAX_BLOCKS_PER_MESSAGE:
        raise ProtocolError(f"{max(counts)} blocks in a message")
    longest = max(map(len, getattr(question, "names", ())), default=0)
    if longest > MAX_BLOCK_NAME_BYTES:
        raise ProtocolError(f"a name of {longest} bytes")
