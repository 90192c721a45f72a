"""The side of the channel that reads blocks."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import msgspec

from twofold_kvtransfer.blocks import BlockIds
from twofold_kvtransfer.digesting import portions
from twofold_kvtransfer.side_channel.calling import Calls
from twofold_kvtransfer.side_channel.connecting import (
    ChannelError,
    local_stream_to,
    stream_to,
)
from twofold_kvtransfer.side_channel.cutting import block_portions, lease_portions
from twofold_kvtransfer.side_channel.messages import (
    Challenge,
    Claim,
    Claimed,
    Digest,
    Digested,
    Done,
    GiveBack,
    Hello,
    Look,
    Proof,
    Recheck,
    Rechecked,
    Refused,
    Seen,
    Welcome,
)
from twofold_kvtransfer.side_channel.proving import (
    holder_proof,
    is_proof,
    new_nonce,
    reader_proof,
)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a peer is waited for."""

    connect_seconds: float = 5.0
    answer_seconds: float = 5.0
    """An answer takes no I/O; the other process may be short of a core, or stopped."""


class Channel:
    """What is asked of the engine process that holds blocks."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._numbers = itertools.count()

    @property
    def name(self) -> str:
        """``host:port`` of the peer."""
        return self._calls.name

    @classmethod
    async def connect(cls, host: str, port: int, patience: Patience) -> "Channel":
        """Connect; to be used as a context, which closes it.

        Raises:
            ChannelError: nobody listens there.
        """
        stream = await stream_to(host, port, patience.connect_seconds)
        return cls(Calls(stream, f"{host}:{port}", patience.answer_seconds))

    @classmethod
    async def connect_local(cls, address: str, patience: Patience) -> "Channel":
        """Connect to the process of this machine that listens at *address*; a context as well.

        Raises:
            ChannelError: nobody listens there.
        """
        stream = await local_stream_to(address, patience.connect_seconds)
        return cls(Calls(stream, "the scheduler's process", patience.answer_seconds))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *args: object) -> None:
        self.close("it was closed")
        await self._calls.until_closed()

    @property
    def is_lost(self) -> bool:
        return self._calls.is_lost

    async def until_lost(self) -> str:
        """Wait for its end, and return the reason."""
        return await self._calls.until_lost()

    def close(self, reason: str) -> None:
        """Lose it for *reason*, unless it is lost already."""
        self._calls.close(reason)

    async def greet(self, hello: Hello, secret: bytes | None = None) -> Welcome:
        """Say who reads, and learn what there is; with a *secret* both prove that they know it.

        Raises:
            ChannelError: the peer refuses, with its reason, or only one side knows the secret.
        """
        hello = msgspec.structs.replace(hello, nonce=new_nonce())
        answer = await self._calls.ask(hello)
        challenge = b""
        if isinstance(answer, Challenge):
            if secret is None:
                raise ChannelError(f"{self.name} asks for the service's secret; none is set here")
            challenge = answer.nonce
            answer = await self._calls.ask(Proof(reader_proof(secret, challenge, hello)))
        if isinstance(answer, Refused):
            raise ChannelError(f"{self.name} refuses: {answer.reason}")
        welcome = self._calls.expect(answer, Welcome)
        if secret is not None:
            expected = holder_proof(secret, challenge, hello, welcome)
            if not is_proof(welcome.proof, expected):
                raise ChannelError(f"{self.name} does not know the service's secret")
        return welcome

    async def claim(self, request_ids: Sequence[str]) -> list[float | None]:
        """Renew leases; return for how many seconds from the call each is held, None: it is not.

        Raises:
            ChannelError: the peer has gone.
        """
        seconds: list[float | None] = []
        for some in lease_portions(request_ids):
            answer = self._calls.expect(await self._calls.ask(Claim(some)), Claimed)
            if len(answer.seconds) != len(some):
                raise self._calls.misspoken(f"answers {len(answer.seconds)} of {len(some)}")
            seconds += answer.seconds
        return seconds

    async def give_back(self, request_ids: Sequence[str]) -> None:
        """Raises:
        ChannelError: the peer has gone, and with it the blocks; or they expire.
        """
        for some in lease_portions(request_ids):
            self._calls.expect(await self._calls.ask(GiveBack(some)), Done)

    async def digest(self, request_id: str, blocks: BlockIds) -> list[int]:
        """Ask what *blocks* hold, and renew their lease; see :class:`Digester` for the answer.

        It takes as long as the peer takes: how long that may be is for the caller to say.

        Raises:
            ChannelError: the peer has gone, or makes no digests of these.
        """
        answers = [
            self._calls.ask_numbered(Digest(next(self._numbers), request_id, list(some)))
            for some in block_portions(blocks)
        ]
        digests: list[int] = []
        for answer in answers:
            digests += self._calls.expect(await answer, Digested).digests
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
        for some in block_portions(names):
            answer = await self._calls.ask_numbered(Look(next(self._numbers), list(some)))
            seen = self._calls.expect(answer, Seen)
            if not len(seen.blocks) == len(seen.versions) <= len(some):
                raise self._calls.misspoken(f"sees {len(seen.blocks)} blocks of {len(some)}")
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
            block_portions(names), block_portions(blocks), block_portions(versions), strict=True
        )
        answers = [
            self._calls.ask_numbered(
                Recheck(next(self._numbers), list(some), list(these), list(those), digest)
            )
            for some, these, those in portions_of_all
        ]
        checked = [self._calls.expect(await answer, Rechecked) for answer in answers]
        digests = [one for some in checked for one in some.digests]
        if digest:
            self._check_count(digests, blocks)
        return digests if all(some.unchanged for some in checked) else None

    def _check_count(self, digests: Sequence[int], blocks: BlockIds) -> None:
        if len(digests) != sum(1 for _ in portions(blocks)):
            raise self._calls.misspoken(f"makes {len(digests)} digests of {len(blocks)} blocks")
