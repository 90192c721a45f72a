"""Fetching the blocks of requests, from the wish to the result."""

import asyncio
import enum
import logging
from collections.abc import Callable
from dataclasses import dataclass

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.blocks import InvalidBlocksError, Move
from twofold_kvtransfer.digesting import Digester
from twofold_kvtransfer.keeping import Keeper
from twofold_kvtransfer.links import Link, LinkError, Links
from twofold_kvtransfer.sources import Source
from twofold_kvtransfer.transports import CHECKSUM, Transfer, TransferState
from twofold_kvtransfer.verifying import Proof
from twofold_kvtransfer.waiting import LETTING_GO_SECONDS, ended, stop

_log = logging.getLogger(__name__)


class Failure(enum.StrEnum):
    """Why blocks were not fetched."""

    SOURCE = "source"
    """The params name no blocks, or too few."""
    LINK = "link"
    """The peer cannot be reached, is another incarnation, or has other blocks."""
    TRANSFER = "transfer"
    """They did not arrive."""
    INTEGRITY = "integrity"
    """They arrived otherwise than they were sent."""
    LEASE = "lease"
    """They were no longer kept when they had arrived."""
    LATE = "late"
    """They took too long."""


class FetchError(TwofoldError):
    """The blocks of a request cannot be used."""

    def __init__(self, failure: Failure, message: str) -> None:
        super().__init__(message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Reception:
    """How the fetching of one request's blocks has ended."""

    request_id: str
    """The local one."""
    failure: Failure | None = None
    """None: all blocks are there."""
    size_bytes: int = 0
    seconds: float = 0.0
    """That the blocks were moving."""


class Receiver:
    """Fetches blocks and keeps leases for the requests of one rank; runs in one loop.

    A request awaits its turn, and then is fetched or abandoned. Every fetch that is started ends in
    one :class:`Reception`; until then its local blocks may be written. A lease is given back when
    its blocks are here or nobody wants them; after a failure it is left to expire, since the
    gateway may send the request elsewhere. A request has at most five tasks at a time, so the
    engine's own bound on requests is the bound on tasks.
    """

    def __init__(
        self,
        links: Links,
        keeper: Keeper,
        tasks: asyncio.TaskGroup,
        *,
        limit_seconds: Callable[[int], float],
        received: Callable[[Reception], None],
        digester: Digester | None = None,
        letting_go_seconds: float = LETTING_GO_SECONDS,
    ) -> None:
        """*limit_seconds*: how long a fetch of so many bytes may take.

        With *digester*, of the local blocks, what arrived is compared with what was sent; without,
        the transport is trusted.
        """
        self._links = links
        self._keeper = keeper
        self._tasks = tasks
        self._limit_seconds = limit_seconds
        self._received = received
        self._digester = digester
        self._letting_go_seconds = letting_go_seconds
        self._waiting: set[tuple[str, str]] = set()
        """The sources that wait for local blocks, by engine and request."""
        self._reading_count = 0

    @property
    def reading_count(self) -> int:
        return self._reading_count

    @property
    def waiting_count(self) -> int:
        """How many requests wait for blocks of their own to read into."""
        return len(self._waiting)

    def await_turn(self, source: Source) -> None:
        """Keep the lease of a request that waits for blocks of its own."""
        self._keeper.want(source)
        self._waiting.add((source.engine_id, source.request_id))
        self._tasks.create_task(self._claim(source))

    def fetch(self, request_id: str, source: Source, local: tuple[int, ...]) -> None:
        """Fetch the last blocks of *source* into *local*, then give the lease back."""
        self._waiting.discard((source.engine_id, source.request_id))
        self._reading_count += 1
        self._tasks.create_task(self._fetch(request_id, source, local))

    def abandon(self, source: Source) -> None:
        """Give back the lease of a request that needs no blocks."""
        self._waiting.discard((source.engine_id, source.request_id))
        if self._keeper.leave(source):
            self._tasks.create_task(self._keeper.give_back(source))

    async def _claim(self, source: Source) -> None:
        try:
            await self._keeper.claim([source])
        except LinkError as error:
            _log.warning("lease of %s not kept: %s", source.request_id, error)

    async def _fetch(self, request_id: str, source: Source, local: tuple[int, ...]) -> None:
        try:
            began = asyncio.get_running_loop().time()
            link = await self._link(source)
            move = _move(source, local)
            transfer = link.read(move)
            try:
                await self._await(transfer, link, source, move, began)
            finally:
                link.note(transfer)
        except FetchError as error:
            reception = self._failed(request_id, error.failure, error)
            self._keeper.leave(source)
        except (LinkError, InvalidBlocksError) as error:
            reception = self._failed(request_id, Failure.LINK, error)
            self._keeper.leave(source)
        else:
            reception = Reception(request_id, None, transfer.size_bytes, transfer.seconds)
            self.abandon(source)
        self._reading_count -= 1
        self._received(reception)

    async def _link(self, source: Source) -> Link:
        """Return the link to *source*. If it is not open in time, it goes on being opened for who
        asks next.

        Raises:
            FetchError: it takes too long.
            LinkError: it cannot be opened.
        """
        limit_seconds = self._limit_seconds(0)
        try:
            async with asyncio.timeout(limit_seconds):
                return await self._links.to(source)
        except TimeoutError as error:
            message = f"no link to {source.engine_id} within {limit_seconds:g} s"
            raise FetchError(Failure.LINK, message) from error

    async def _await(
        self, transfer: Transfer, link: Link, source: Source, move: Move, began: float
    ) -> None:
        """Wait for *transfer* to end, and for the proofs that its blocks were kept until then and
        are here as they are there.

        Both are asked for while the blocks move already: they count if the lease held until they
        were here, by a clock that began before the claim was sent.

        Raises:
            FetchError: the blocks cannot be used.
            LinkError: the peer does not say what it has sent.
        """
        claiming = self._tasks.create_task(self._claim(source))
        proof = None if self._digester is None else Proof(link, source, move, self._tasks)
        limit_seconds = self._limit_seconds(transfer.size_bytes)
        try:
            async with asyncio.timeout_at(began + limit_seconds) as limit:
                await ended(transfer)
            if transfer.poll() is TransferState.FAILED:
                raise FetchError(failure_of(transfer), transfer.reason or "failed")
            arrived = self._keeper.now()
            await claiming
            self._check_held(source, arrived)
            if self._digester is not None and proof is not None:
                async with asyncio.timeout_at(limit.when()):
                    await self._verify(proof, self._digester, source)
        except TimeoutError as error:
            await stop(transfer, link, self._letting_go_seconds)
            raise FetchError(Failure.LATE, f"not within {limit_seconds:g} s") from error
        finally:
            if proof is not None:
                proof.drop()

    def _check_held(self, source: Source, until: float) -> None:
        if not self._keeper.held(source, until):
            raise FetchError(Failure.LEASE, "the lease ended before the blocks were here")

    async def _verify(self, proof: Proof, digester: Digester, source: Source) -> None:
        damaged = await proof.damaged(digester)
        if damaged:
            # The peer may have digested what came after them.
            self._check_held(source, self._keeper.now())
            raise FetchError(Failure.INTEGRITY, f"not as they were sent: blocks {damaged}")

    def _failed(self, request_id: str, failure: Failure, error: TwofoldError) -> Reception:
        _log.warning("blocks of %s not fetched: %s: %s", request_id, failure, error)
        return Reception(request_id, failure)


def failure_of(transfer: Transfer) -> Failure:
    """Return why *transfer* failed."""
    damaged = (transfer.reason or "").startswith(CHECKSUM)
    return Failure.INTEGRITY if damaged else Failure.TRANSFER


def _move(source: Source, local: tuple[int, ...]) -> Move:
    """Pair *local* with the last blocks of *source*: what comes before is cached here already.

    Raises:
        FetchError: there are fewer than are wanted.
    """
    if len(local) > len(source.blocks):
        message = f"{len(local)} blocks wanted, {len(source.blocks)} there"
        raise FetchError(Failure.SOURCE, message)
    return Move(local=local, remote=source.blocks[len(source.blocks) - len(local) :])
