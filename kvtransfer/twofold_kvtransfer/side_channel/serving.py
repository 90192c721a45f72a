"""The side of the channel that holds blocks: says who it is, and keeps leases."""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import msgspec

from twofold_kvtransfer.blocks import InvalidBlocksError
from twofold_kvtransfer.digesting import Digester
from twofold_kvtransfer.heads import part_read
from twofold_kvtransfer.lease import Reader
from twofold_kvtransfer.leases import LeaseTable, UnknownLeaseError
from twofold_kvtransfer.side_channel.answering import answer_all, read_question, say
from twofold_kvtransfer.side_channel.frames import notice_end
from twofold_kvtransfer.side_channel.messages import (
    MAX_HELLO_BYTES,
    MAX_LEASES_PER_MESSAGE,
    PROTOCOL_VERSION,
    Answer,
    Challenge,
    Claim,
    Claimed,
    Done,
    GiveBack,
    Hello,
    Proof,
    ProtocolError,
    Refused,
    Unnumbered,
    Welcome,
)
from twofold_kvtransfer.side_channel.proving import (
    holder_proof,
    is_proof,
    new_nonce,
    reader_proof,
)
from twofold_kvtransfer.side_channel.slow_answers import MAX_SLOW_ANSWERS, SlowAnswers
from twofold_kvtransfer.viewing import NO_CACHE, View

HELLO_SECONDS = 10.0
"""How long a connection may be open before somebody says who it is."""

MAX_CONNECTIONS = 4096
"""A connection a rank of each decode worker; the largest pools have some thousand."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Host:
    """What this side tells of itself, and what it asks of those who read."""

    welcome: Welcome
    compatibility: str
    transport: str
    tensor_parallel: int
    rank: int = 0
    secret: bytes | None = field(default=None, repr=False)
    """Of the service, which readers must prove to know; None: there is none."""

    def why_not(self, hello: Hello) -> str | None:
        """Say why *hello* cannot read from here; None when it can."""
        mine = (PROTOCOL_VERSION, self.transport)
        theirs = (hello.version, hello.transport)
        for name, own, other in zip(("protocol version", "transport"), mine, theirs, strict=True):
            if own != other:
                return f"another {name}: {other} there, {own} here"
        if hello.compatibility != self.compatibility:
            # Ours is not told: a stranger would then know what to say. The log here has both.
            return f"another engine, model or cache than {hello.compatibility} there"
        count, rest = divmod(hello.tensor_parallel, self.tensor_parallel)
        if rest or count < 1:
            return (
                f"tensor parallelism of {hello.tensor_parallel} is not a multiple of"
                f" {self.tensor_parallel}"
            )
        if hello.reader.rank // count != self.rank:
            return f"rank {hello.reader.rank} of {hello.tensor_parallel} reads from another rank"
        try:
            self._part(hello)
        except InvalidBlocksError as error:
            return str(error)
        return None

    def reader(self, hello: Hello) -> Reader:
        """Return who asks, with how many ranks of its engine read from this process, and what of
        each block it reads; :meth:`why_not` has nothing against it."""
        count = hello.tensor_parallel // self.tensor_parallel
        return dataclasses.replace(hello.reader, count=count, part=self._part(hello))

    def welcome_to(self, hello: Hello, challenge: bytes) -> Welcome:
        if self.secret is None:
            return self.welcome
        proof = holder_proof(self.secret, challenge, hello, self.welcome)
        return msgspec.structs.replace(self.welcome, proof=proof)

    def _part(self, hello: Hello) -> tuple[int, int]:
        """Raises:
        InvalidBlocksError: its blocks are no part of those here.
        """
        return part_read(
            hello.reader.rank,
            hello.tensor_parallel // self.tensor_parallel,
            there_bytes=self.welcome.blocks.block_bytes,
            here_bytes=hello.block_bytes,
        )


@dataclass(frozen=True, slots=True)
class ReaderSnapshot:
    reader: Reader
    connected_seconds: float


class Desk:
    """Answers the readers of one engine process; a context, whose end ends all connections.

    ``_open`` has each connection, with who it is of and since when once that is known: of a worker
    the latest incarnation only.
    """

    def __init__(
        self,
        host: Host,
        leases: LeaseTable,
        *,
        returned: Callable[[], None],
        digester: Digester | None = None,
        view: View = NO_CACHE,
        hello_seconds: float = HELLO_SECONDS,
        max_connections: int = MAX_CONNECTIONS,
        max_slow_answers: int = MAX_SLOW_ANSWERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*returned* is called when leases may have ended: given back, or fenced. Without
        *digester* the blocks are not in host memory, and it is told so to who asks for digests;
        who asks for blocks by their names is told what *view* shows."""
        self._host = host
        self._leases = leases
        self._returned = returned
        self._slow = SlowAnswers(self._claim, digester, view, max_count=max_slow_answers)
        self._hello_seconds = hello_seconds
        self._max_connections = max_connections
        self._clock = clock
        self._open: dict[asyncio.StreamWriter, tuple[Reader, float] | None] = {}
        self._all_ended = asyncio.Event()
        self._all_ended.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *args: object) -> None:
        for writer in self._open:
            writer.transport.abort()
        await self._all_ended.wait()

    @property
    def connection_count(self) -> int:
        return len(self._open)

    def snapshot(self) -> tuple[ReaderSnapshot, ...]:
        """Return who reads from here now."""
        now = self._clock()
        return tuple(
            ReaderSnapshot(reader, now - since)
            for reader, since in filter(None, self._open.values())
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection to its end; a handler for ``asyncio.start_server``."""
        self._open[writer] = None
        self._all_ended.clear()
        try:
            if len(self._open) > self._max_connections:
                _log.warning("a reader too many: %d are connected", self._max_connections)
                return
            notice_end(writer)
            await self._converse(reader, writer)
        except* (ProtocolError, OSError) as group:
            error = group.exceptions[0]
            _log.warning("connection of a reader ended: %s", str(error) or type(error).__name__)
        finally:
            del self._open[writer]
            if not self._open:
                self._all_ended.set()
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(self._hello_seconds):
            hello = await read_question(reader, MAX_HELLO_BYTES)
        if hello is None:
            return
        if not isinstance(hello, Hello):
            raise ProtocolError("the first message is no hello")
        challenge = new_nonce()
        reason = (
            self._host.why_not(hello)
            or await self._why_unproved(reader, writer, hello, challenge)
            or self._why_late(hello.reader)
        )
        if reason is not None:
            _log.warning(
                "reader %r refused: %s; %s here",
                hello.reader.worker,
                reason,
                self._host.compatibility,
            )
            await say(writer, Refused(reason))
            return
        asker = self._host.reader(hello)
        self._fence(asker)
        self._open[writer] = asker, self._clock()
        await say(writer, self._host.welcome_to(hello, challenge))
        await answer_all(reader, writer, asker, self._slow, self._answer)

    async def _why_unproved(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        hello: Hello,
        challenge: bytes,
    ) -> str | None:
        secret = self._host.secret
        if secret is None:
            return None
        await say(writer, Challenge(challenge))
        async with asyncio.timeout(self._hello_seconds):
            said = await read_question(reader, MAX_HELLO_BYTES)
        expected = reader_proof(secret, challenge, hello)
        if isinstance(said, Proof) and is_proof(said.proof, expected):
            return None
        return "it does not know the service's secret"

    def _why_late(self, asker: Reader) -> str | None:
        for known, _ in filter(None, self._open.values()):
            if known.worker == asker.worker and known.incarnation > asker.incarnation:
                return f"incarnation {asker.incarnation} was followed by {known.incarnation}"
        return None

    def _fence(self, asker: Reader) -> None:
        """End what earlier incarnations of *asker* hold, and their connections."""
        for writer, greeted in self._open.items():
            if greeted is None:
                continue
            known, _ = greeted
            if known.worker == asker.worker and known.incarnation < asker.incarnation:
                writer.transport.abort()
        self._leases.fence(asker.worker, asker.incarnation)
        self._returned()

    def _answer(self, question: Unnumbered, reader: Reader) -> Answer:
        match question:
            case Claim(request_ids):
                return Claimed([self._claim(name, reader) for name in _bounded(request_ids)])
            case GiveBack(request_ids):
                for name in _bounded(request_ids):
                    self._leases.give_back(name, reader)
                self._returned()
                return Done()
            case Hello() | Proof():
                raise ProtocolError("a second greeting")

    def _claim(self, request_id: str, reader: Reader) -> float | None:
        try:
            return self._leases.claim(request_id, reader, self._clock())
        except UnknownLeaseError:
            return None


def _bounded(request_ids: list[str]) -> list[str]:
    if len(request_ids) > MAX_LEASES_PER_MESSAGE:
        raise ProtocolError(f"{len(request_ids)} leases in a message")
    return request_ids
