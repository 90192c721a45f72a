"""Links to the engine processes that blocks are fetched from, one for each of their lives."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.blocks import BlockIds, BlockMap, InvalidBlocksError, Move
from twofold_kvtransfer.heads import part_read
from twofold_kvtransfer.side_channel import Channel, ChannelError, Hello, Patience
from twofold_kvtransfer.sources import Peer, split_engine_id
from twofold_kvtransfer.traffic import Traffic, TrafficSnapshot
from twofold_kvtransfer.transports import Pair, PeerError, Transfer, Transport

_log = logging.getLogger(__name__)


class LinkError(TwofoldError):
    """Blocks cannot be fetched from there: no link, or another geometry."""


@dataclass(frozen=True, slots=True)
class LinkSnapshot:
    engine_id: str
    address: str
    """Of the side channel, ``host:port``."""
    open_seconds: float
    traffic: TrafficSnapshot


@dataclass(frozen=True, slots=True)
class Seen:
    """Blocks of a peer's prefix cache, which nobody keeps: they may change."""

    names: tuple[bytes, ...]
    blocks: tuple[int, ...]
    versions: tuple[int, ...]


class Link:
    """One peer in one incarnation: its leases can be claimed, its blocks can be read."""

    def __init__(self, channel: Channel, pair: Pair, opened_at: float = 0.0) -> None:
        self._channel = channel
        self._pair = pair
        self._opened_at = opened_at
        self._traffic = Traffic()
        self._moving_bytes = 0

    async def claim(self, request_ids: Sequence[str]) -> list[float | None]:
        """Renew leases; return for how many seconds from the call each is held, None: it is not.

        Raises:
            LinkError: the peer has gone.
        """
        try:
            return await self._channel.claim(request_ids)
        except ChannelError as error:
            raise LinkError(str(error)) from error

    async def give_back(self, request_id: str) -> None:
        """Raises:
        LinkError: the peer has gone, and with it the blocks; or the lease expires.
        """
        try:
            await self._channel.give_back([request_id])
        except ChannelError as error:
            raise LinkError(str(error)) from error

    async def digest(self, request_id: str, blocks: BlockIds) -> list[int]:
        """Ask what *blocks* of the peer hold; see :class:`Digester` for the answer.

        How long it may take is for the caller to say.

        Raises:
            LinkError: the peer has gone, or makes no digests of these.
        """
        try:
            return await self._channel.digest(request_id, blocks)
        except ChannelError as error:
            raise LinkError(str(error)) from error

    async def look(self, names: Sequence[bytes]) -> Seen:
        """Look for blocks of the peer's prefix cache that have the first of *names*.

        How long it may take is for the caller to say.

        Raises:
            LinkError: the peer has gone, or does not answer.
        """
        try:
            blocks, versions = await self._channel.look(names)
        except ChannelError as error:
            raise LinkError(str(error)) from error
        return Seen(tuple(names[: len(blocks)]), tuple(blocks), tuple(versions))

    async def recheck(self, seen: "Seen", *, digest: bool) -> list[int] | None:
        """Ask what the blocks hold that were *seen*, if *digest*; None: not the same any more.

        Raises:
            LinkError: the peer has gone, or makes no digests of these.
        """
        try:
            return await self._channel.recheck(
                seen.names, seen.blocks, seen.versions, digest=digest
            )
        except ChannelError as error:
            raise LinkError(str(error)) from error

    def read(self, move: Move) -> Transfer:
        """Start to fetch blocks; :meth:`note` is to be told when that has ended.

        Raises:
            InvalidBlocksError: one side does not have these blocks.
        """
        transfer = self._pair.read(move)
        self._moving_bytes += transfer.size_bytes
        return transfer

    def note(self, transfer: Transfer) -> None:
        """Count *transfer*, which was read here and has ended."""
        self._moving_bytes -= transfer.size_bytes
        self._traffic.note(transfer)

    def predict_seconds(self, size_bytes: int, unmeasured_bytes_per_second: float) -> float:
        """Return how long a read of *size_bytes* would take, after those that are moving."""
        measured = self._traffic.snapshot().bytes_per_second
        return (self._moving_bytes + size_bytes) / (measured or unmeasured_bytes_per_second)

    def snapshot(self, engine_id: str, now: float) -> LinkSnapshot:
        return LinkSnapshot(
            engine_id, self._channel.name, now - self._opened_at, self._traffic.snapshot()
        )

    def close(self, reason: str) -> None:
        """Fail for *reason* what moves here, and end the link."""
        self._pair.close(reason)
        self._channel.close(reason)


class Links:
    """All links of one rank of an engine, opened when they are first needed.

    There is at most one to a worker: its latest incarnation's that has answered. When a new one
    does, the link to the old is closed, and what moves on it fails; before that it is but a name.
    A link that was lost is opened anew when it is asked for.
    """

    def __init__(
        self,
        transport: Transport,
        hello: Hello,
        tasks: asyncio.TaskGroup,
        *,
        secret: bytes | None = None,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """*secret*: the service's, which peers must know too; None: there is none."""
        self._transport = transport
        self._hello = hello
        self._tasks = tasks
        self._secret = secret
        self._patience = patience or Patience()
        self._clock = clock
        self._lines: dict[str, _Line] = {}
        self._closed = False

    async def to(self, peer: Peer) -> Link:
        """Return the link to that rank of *peer* which holds this rank's heads.

        Raises:
            LinkError: it cannot be opened, or a later incarnation has answered.
        """
        if self._closed:
            raise LinkError("the links are closed")
        self._check_latest(peer.engine_id)
        line = self._lines.get(peer.engine_id) or self._start(peer)
        try:
            return await asyncio.shield(line.link)
        except LinkError as error:
            raise LinkError(f"no link to {peer.engine_id}: {error}") from error

    def snapshot(self) -> tuple[LinkSnapshot, ...]:
        """Return the links that are open now."""
        now = self._clock()
        return tuple(
            line.link.result().snapshot(engine_id, now)
            for engine_id, line in self._lines.items()
            if line.link.done() and line.link.exception() is None
        )

    def close(self) -> None:
        """Close all links, for good; what moves on them fails."""
        self._closed = True
        for line in self._lines.values():
            line.close("the link was closed")

    def _start(self, peer: Peer) -> "_Line":
        link: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
        task = self._tasks.create_task(self._run(peer, link))
        task.add_done_callback(lambda _: self._lines.pop(peer.engine_id))
        line = self._lines[peer.engine_id] = _Line(link, task)
        return line

    def _check_latest(self, engine_id: str) -> None:
        worker, incarnation = split_engine_id(engine_id)
        for known_id, line in self._lines.items():
            known_worker, known = split_engine_id(known_id)
            if line.has_answered and known_worker == worker and known > incarnation:
                raise LinkError(f"{engine_id} was followed by {known_id}")

    def _fence(self, engine_id: str) -> None:
        """Close the links to earlier incarnations of *engine_id*, which has answered."""
        self._lines[engine_id].has_answered = True
        worker, incarnation = split_engine_id(engine_id)
        for known_id, line in self._lines.items():
            known_worker, known = split_engine_id(known_id)
            if known_worker == worker and known < incarnation:
                line.close(f"{known_id} was followed by {engine_id}")

    async def _run(self, peer: Peer, link: "asyncio.Future[Link]") -> None:
        """Open a link and keep it to its end. What a peer may do wrong is an error of the link:
        a task that raises would end all others."""
        try:
            port = peer.port + self._rank_there(peer)
            async with await Channel.connect(peer.host, port, self._patience) as channel:
                pair = await self._greet(channel, peer)
                link.set_result(Link(channel, pair, self._clock()))
                reason = "the link was closed"
                try:
                    reason = await channel.until_lost()
                finally:
                    pair.close(reason)
        except (ChannelError, LinkError, PeerError, InvalidBlocksError) as error:
            _refuse(link, str(error))

    async def _greet(self, channel: Channel, peer: Peer) -> Pair:
        welcome = await channel.greet(self._hello, self._secret)
        if (welcome.worker, welcome.incarnation) != split_engine_id(peer.engine_id):
            raise LinkError(f"{welcome.worker}:{welcome.incarnation} is there now")
        self._fence(peer.engine_id)
        index, count = part_read(
            self._hello.reader.rank,
            self._ranks_each(peer),
            there_bytes=welcome.blocks.block_bytes,
            here_bytes=self._hello.block_bytes,
        )
        remote = welcome.blocks.part(index, count)
        # In a thread, beside others: a peer that is mute there keeps none waiting but who wants it.
        opening = asyncio.get_running_loop().run_in_executor(
            None, self._open, welcome.description, remote
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unused)  # a thread cannot be stopped
            raise

    def _open(self, description: bytes, remote: BlockMap) -> Pair:
        """Open a pair; runs in a thread, while the loop's goes on reading over others."""
        try:
            return self._transport.open(description, remote)
        except (PeerError, InvalidBlocksError):
            raise
        except Exception as error:  # an edge: no description may end the links to all others
            _log.exception("no pair can be opened with what a peer describes")
            raise LinkError(f"an error on this side, see its log: {error}") from error

    def _rank_there(self, peer: Peer) -> int:
        return self._hello.reader.rank // self._ranks_each(peer)

    def _ranks_each(self, peer: Peer) -> int:
        count, rest = divmod(self._hello.tensor_parallel, peer.tensor_parallel)
        if rest or not count:
            raise LinkError(
                f"tensor parallelism of {self._hello.tensor_parallel} is not a multiple of"
                f" {peer.tensor_parallel}"
            )
        return count


@dataclass(slots=True)
class _Line:
    """A link from the first wish for it to its end."""

    link: "asyncio.Future[Link]"
    """What those who want it wait for."""
    task: "asyncio.Task[None]"
    has_answered: bool = False
    """The incarnation is no made-up name: it has said that it is there."""

    def close(self, reason: str) -> None:
        if not self.link.done():
            _refuse(self.link, reason)
            self.task.cancel()
        elif self.link.exception() is None:
            self.link.result().close(reason)


def _refuse(link: "asyncio.Future[Link]", reason: str) -> None:
    """Fail those who wait for *link*, unless it was opened, or refused before."""
    if not link.done():
        link.set_exception(LinkError(reason))
        link.exception()  # known to be seen, also if nobody waits any more


def _close_unused(opening: "asyncio.Future[Pair]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close("nobody waits for it any more")
