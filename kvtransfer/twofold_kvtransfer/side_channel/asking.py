"""The side of the channel that reads blocks."""

import asyncio
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self, TypeVar

import msgspec

from twofold_kvtransfer.blocks import BlockIds
from twofold_kvtransfer.digesting import portions
from twofold_kvtransfer.side_channel.connecting import (
    ChannelError,
    local_stream_to,
    stream_to,
)
from twofold_kvtransfer.side_channel.frames import read_frame
from twofold_kvtransfer.side_channel.messages import (
    MAX_BLOCKS_PER_MESSAGE,
    MAX_LEASES_PER_MESSAGE,
    MAX_QUESTION_BYTES,
    Answer,
    Challenge,
    Claim,
    Claimed,
    Digest,
    Digested,
    Done,
    GiveBack,
    Hello,
    Look,
    Numbered,
    NumberedAnswer,
    Proof,
    ProtocolError,
    Question,
    Recheck,
    Rechecked,
    Refused,
    Seen,
    Unanswered,
    Welcome,
    decode_answer,
    frame,
)
from twofold_kvtransfer.side_channel.proving import (
    holder_proof,
    is_proof,
    new_nonce,
    reader_proof,
)

MAX_UNANSWERED = 4096
"""Questions with a number that a peer may owe answers to, also such as nobody waits for any more.
One that lives refuses before (``serving.MAX_SLOW_ANSWERS`` of each kind)."""

OVERHEAD_BYTES = 64
"""More than MessagePack takes for a name beside its bytes, and for a message beside its names."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a peer is waited for."""

    connect_seconds: float = 5.0
    answer_seconds: float = 5.0
    """An answer takes no I/O; the other process may be short of a core, or stopped."""


A = TypeVar("A", bound=Answer)
T = TypeVar("T")


class Channel:
    """A connection to the engine process that holds blocks.

    Answers come in the order of the questions, but those with a number: they are made in their own
    time, so ``_numbered`` has who waits for each. It is lost once, for a reason that stays; what
    was asked then fails at once, and what is asked later.
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
        self._numbered: dict[int, asyncio.Future[NumberedAnswer]] = {}
        self._numbers = itertools.count()
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
        reader, writer = await stream_to(host, port, patience.connect_seconds)
        return cls(reader, writer, f"{host}:{port}", patience.answer_seconds)

    @classmethod
    async def connect_local(cls, address: str, patience: Patience) -> "Channel":
        """Connect to the process of this machine that listens at *address*; a context as well.

        Raises:
            ChannelError: nobody listens there.
        """
        reader, writer = await local_stream_to(address, patience.connect_seconds)
        return cls(reader, writer, "the scheduler's process", patience.answer_seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *args: object) -> None:
        self.close("it was closed")
        await self._watching

    @property
    def is_lost(self) -> bool:
        return self._lost.done()

    async def until_lost(self) -> str:
        """Wait for its end, and return the reason."""
        return await asyncio.shield(self._lost)

    async def greet(self, hello: Hello, secret: bytes | None = None) -> Welcome:
        """Say who reads, and learn what there is; with a *secret* both prove that they know it.

        Raises:
            ChannelError: the peer refuses, with its reason, or only one side knows the secret.
        """
        hello = msgspec.structs.replace(hello, nonce=new_nonce())
        answer = await self._ask(hello)
        challenge = b""
        if isinstance(answer, Challenge):
            if secret is None:
                raise ChannelError(f"{self._name} asks for the service's secret; none is set here")
            challenge = answer.nonce
            answer = await self._ask(Proof(reader_proof(secret, challenge, hello)))
        if isinstance(answer, Refused):
            raise ChannelError(f"{self._name} refuses: {answer.reason}")
        welcome = self._expect(answer, Welcome)
        if secret is not None:
            expected = holder_proof(secret, challenge, hello, welcome)
            if not is_proof(welcome.proof, expected):
                raise ChannelError(f"{self._name} does not know the service's secret")
        return welcome

    async def claim(self, request_ids: Sequence[str]) -> list[float | None]:
        """Renew leases; return for how many seconds from the call each is held, None: it is not.

        Raises:
            ChannelError: the peer has gone.
        """
        seconds: list[float | None] = []
        for some in _portions(request_ids):
            answer = self._expect(await self._ask(Claim(some)), Claimed)
            if len(answer.seconds) != len(some):
                raise self._misspoken(f"answers {len(answer.seconds)} of {len(some)}")
            seconds += answer.seconds
        return seconds

    async def give_back(self, request_ids: Sequence[str]) -> None:
        """Raises:
        ChannelError: the peer has gone, and with it the blocks; or they expire.
        """
        for some in _portions(request_ids):
            self._expect(await self._ask(GiveBack(some)), Done)

    async def digest(self, request_id: str, blocks: BlockIds) -> list[int]:
        """Ask what *blocks* hold, and renew their lease; see :class:`Digester` for the answer.

        It takes as long as the peer takes: how long that may be is for the caller to say.

        Raises:
            ChannelError: the peer has gone, or makes no digests of these.
        """
        answers = [
            self._ask_numbered(Digest(next(self._numbers), request_id, list(some)))
            for some in _block_portions(blocks)
        ]
        digests: list[int] = []
        for answer in answers:
            digests += self._answered(await answer, Digested).digests
        self._check_count(digests, blocks)
        return digests

    async def look(self, names: Sequence[bytes]) -> tuple[list[int], list[int]]:
        """Return blocks of the peer's prefix cache that have the first of *names*, computed by now,
        and their versions; as many as there are. As long as the peer takes, like digests.

        Raises:
            ChannelError: the peer has gone, or is in a long step.
        """
        blocks: list[int] = []
        versions: list[int] = []
        for some in _block_portions(names):
            answer = await self._ask_numbered(Look(next(self._numbers), list(some)))
            seen = self._answered(answer, Seen)
            if not len(seen.blocks) == len(seen.versions) <= len(some):
                raise self._misspoken(f"sees {len(seen.blocks)} blocks of {len(some)}")
            blocks += seen.blocks
            versions += seen.versions
            if len(seen.blocks) < len(some):
                break
        return blocks, versions

    async def recheck(
        self,
        names: Sequence[bytes],
        blocks: Sequence[int],
        versions: Sequence[int],
        *,
        digest: bool,
    ) -> list[int] | None:
        """Ask whether the *blocks* that were seen under *names* have been the same since, and what
        they hold if *digest*; None: they have not. As long as the peer takes, like digests.

        Raises:
            ChannelError: the peer has gone, or makes no digests of these.
        """
        portions_of_all = zip(
            _block_portions(names), _block_portions(blocks), _block_portions(versions), strict=True
        )
        answers = [
            self._ask_numbered(
                Recheck(next(self._numbers), list(some), list(these), list(those), digest)
            )
            for some, these, those in portions_of_all
        ]
        checked = [self._answered(await answer, Rechecked) for answer in answers]
        digests = [one for some in checked for one in some.digests]
        if digest:
            self._check_count(digests, blocks)
        return digests if all(some.unchanged for some in checked) else None

    def close(self, reason: str) -> None:
        """Lose it for *reason*, unless it is lost already."""
        if self._lost.done():
            return
        self._lost.set_result(f"{self._name}: {reason}")
        for asked in self._asked:
            _fail(asked, self._lost.result())
        for numbered in self._numbered.values():
            _fail(numbered, self._lost.result())
        self._asked.clear()
        self._numbered.clear()
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

    def _ask_numbered(self, question: Numbered) -> "asyncio.Future[NumberedAnswer]":
        if self._lost.done():
            raise ChannelError(self._lost.result())
        if len(self._numbered) >= MAX_UNANSWERED:
            self.close("it does not answer")
            raise ChannelError(f"{self._name} does not answer")
        answer = self._numbered[question.number] = asyncio.get_running_loop().create_future()
        self._writer.write(frame(question))
        return answer

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

    def _answered(self, answer: NumberedAnswer, kind: type[A]) -> A:
        if isinstance(answer, Unanswered):
            raise ChannelError(f"{self._name} does not answer: {answer.reason}")
        return self._expect(answer, kind)

    def _expect(self, answer: Answer, kind: type[A]) -> A:
        if not isinstance(answer, kind):
            raise self._misspoken(f"answers {type(answer).__name__}")
        return answer

    def _check_count(self, digests: Sequence[int], blocks: BlockIds) -> None:
        if len(digests) != sum(1 for _ in portions(blocks)):
            raise self._misspoken(f"makes {len(digests)} digests of {len(blocks)} blocks")

    def _misspoken(self, how: str) -> ChannelError:
        """Lose a peer that does not speak as it must, and return the error that says so."""
        self.close("it does not speak as it must")
        return ChannelError(f"{self._name} {how}")


def _fail(asked: "asyncio.Future[A]", reason: str) -> None:
    if not asked.done():
        asked.set_exception(ChannelError(reason))
        asked.exception()  # known to be seen, also if nobody waits any more


def _portions(request_ids: Sequence[str]) -> Iterator[list[str]]:
    """Cut leases into what fits into a message."""
    some: list[str] = []
    size_bytes = 0
    for name in request_ids:
        name_bytes = len(name.encode()) + OVERHEAD_BYTES
        fits = size_bytes + name_bytes <= MAX_QUESTION_BYTES - OVERHEAD_BYTES
        if some and not (fits and len(some) < MAX_LEASES_PER_MESSAGE):
            yield some
            some, size_bytes = [], 0
        some.append(name)
        size_bytes += name_bytes
    if some:
        yield some


def _block_portions(listed: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut what there is for each block into what fits into a message."""
    for start in range(0, len(listed), MAX_BLOCKS_PER_MESSAGE):
        yield listed[start : start + MAX_BLOCKS_PER_MESSAGE]
