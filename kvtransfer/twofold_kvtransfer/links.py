"""Links to the engine processes that blocks are fetched from, one for each of their lives."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.blocks import BlockIds, BlockMap, InvalidBlocksError, Move
from twofold_kvtransfer.side_channel import Channel, ChannelError, Hello, Patience
from twofold_kvtransfer.sources import Source, split_engine_id
from twofold_kvtransfer.traffic import Traffic, TrafficSnapshot
from twofold_kvtransfer.transports import Pair, PeerError, Transfer, Transport


class LinkError(TwofoldError):
    """Blocks cannot be fetched from there: no link, or another geometry."""


@dataclass(frozen=True, slots=True)
class LinkSnapshot:
    engine_id: str
    address: str
    """Of the side channel, ``host:port``."""
    open_seconds: float
    traffic: TrafficSnapshot


class Link:
    """One peer in one incarnation: its leases can be claimed, its blocks can be read."""

    def __init__(self, channel: Channel, pair: Pair, opened_at: float = 0.0) -> None:
        self._channel = channel
        self._pair = pair
        self._opened_at = opened_at
        self._traffic = Traffic()

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

    def read(self, move: Move) -> Transfer:
        """Raises:
        InvalidBlocksError: one side does not have these blocks.
        """
        return self._pair.read(move)

    def note(self, transfer: Transfer) -> None:
        """Count *transfer*, which was read here and has ended."""
        self._traffic.note(transfer)

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

    There is at most one to a worker: its latest incarnation's. With a new one the link to the old
    is closed, and what moves on it fails; a link that was lost is opened anew when it is asked for.
    """

    def __init__(
        self,
        transport: Transport,
        hello: Hello,
        tasks: asyncio.TaskGroup,
        *,
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._hello = hello
        self._tasks = tasks
        self._patience = patience or Patience()
        self._clock = clock
        self._lines: dict[str, _Line] = {}
        self._closed = False
        self._one_opens = threading.Lock()

    async def to(self, source: Source) -> Link:
        """Return the link to that rank of *source*'s engine which holds this rank's heads.

        Raises:
            LinkError: it cannot be opened, or a later incarnation is known.
        """
        if self._closed:
            raise LinkError("the links are closed")
        self._fence(source.engine_id)
        line = self._lines.get(source.engine_id) or self._start(source)
        try:
            return await asyncio.shield(line.link)
        except LinkError as error:
            raise LinkError(f"no link to {source.engine_id}: {error}") from error

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

    def _start(self, source: Source) -> "_Line":
        link: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
        task = self._tasks.create_task(self._run(source, link))
        task.add_done_callback(lambda _: self._lines.pop(source.engine_id))
        line = self._lines[source.engine_id] = _Line(link, task)
        return line

    def _fence(self, engine_id: str) -> None:
        worker, incarnation = split_engine_id(engine_id)
        for known_id, line in self._lines.items():
            known_worker, known = split_engine_id(known_id)
            if known_worker != worker or known == incarnation:
                continue
            if known > incarnation:
                raise LinkError(f"{engine_id} was followed by {known_id}")
            line.close(f"{known_id} was followed by {engine_id}")

    async def _run(self, source: Source, link: "asyncio.Future[Link]") -> None:
        """Open a link and keep it to its end. What a peer may do wrong is an error of the link:
        a task that raises would end all others."""
        try:
            port = source.port + self._rank_there(source)
            async with await Channel.connect(source.host, port, self._patience) as channel:
                pair = await self._greet(channel, source)
                link.set_result(Link(channel, pair, self._clock()))
                reason = "the link was closed"
                try:
                    reason = await channel.until_lost()
                finally:
                    pair.close(reason)
        except (ChannelError, LinkError, PeerError, InvalidBlocksError) as error:
            _refuse(link, str(error))

    async def _greet(self, channel: Channel, source: Source) -> Pair:
        welcome = await channel.greet(self._hello)
        if (welcome.worker, welcome.incarnation) != split_engine_id(source.engine_id):
            raise LinkError(f"{welcome.worker}:{welcome.incarnation} is there now")
        index, count = self._part(source)
        remote = welcome.blocks.part(index, count)
        opening = asyncio.get_running_loop().run_in_executor(
            None, self._open, welcome.description, remote
        )
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unused)  # a thread cannot be stopped
            raise

    def _open(self, description: bytes, remote: BlockMap) -> Pair:
        """Open a pair; runs in a thread, while this one goes on reading over others."""
        with self._one_opens:
            return self._transport.open(description, remote)

    def _rank_there(self, source: Source) -> int:
        return self._hello.reader.rank // self._ranks_each(source)

    def _part(self, source: Source) -> tuple[int, int]:
        """Return which of how many parts of each block hold this rank's heads."""
        count = self._ranks_each(source)
        return self._hello.reader.rank % count, count

    def _ranks_each(self, source: Source) -> int:
        count, rest = divmod(self._hello.tensor_parallel, source.tensor_parallel)
        if rest or not count:
            raise LinkError(
                f"tensor parallelism of {self._hello.tensor_parallel} is not a multiple of"
                f" {source.tensor_parallel}"
            )
        return count


@dataclass(frozen=True, slots=True)
class _Line:
    """A link from the first wish for it to its end."""

    link: "asyncio.Future[Link]"
    """What those who want it wait for."""
    task: "asyncio.Task[None]"

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
