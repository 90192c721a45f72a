"""One rank of an engine as its peers see it: a thread that lends blocks and fetches others'."""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TypeVar

import grpc

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.digesting import Digester
from twofold_kvtransfer.inspecting import Identity, Inspection
from twofold_kvtransfer.keeping import Keeper
from twofold_kvtransfer.lease import Reader
from twofold_kvtransfer.leases import MAX_PINNED_SHARE, Ended, LeaseTable
from twofold_kvtransfer.links import Links
from twofold_kvtransfer.loading import Load, load_of
from twofold_kvtransfer.loop_thread import LoopThread
from twofold_kvtransfer.prefixes import PrefixRead, Pull, Pulled
from twofold_kvtransfer.pulling import Puller
from twofold_kvtransfer.receiving import Receiver, Reception
from twofold_kvtransfer.service import bind, serving
from twofold_kvtransfer.settings import ConnectorSettings
from twofold_kvtransfer.side_channel import Desk, Hello, Host, Welcome
from twofold_kvtransfer.sources import split_engine_id
from twofold_kvtransfer.transports import Transfer, Transport
from twofold_kvtransfer.viewing import NO_CACHE, View

RENEWALS_PER_LEASE = 6
"""As many claims may be lost, but one, before a lease ends."""

EXPIRY_SECONDS = 0.25
"""How often leases are looked through for those that nobody claimed."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class NodeError(TwofoldError):
    """The thread could not start, or has ended."""


@dataclass(frozen=True, slots=True)
class Rank:
    """Which rank of which engine."""

    engine_id: str
    compatibility: str
    tensor_parallel: int = 1
    rank: int = 0


class Node:
    """Owns the thread, its event loop, and in it the leases, the links and the side channel.

    Its methods are for one other thread, the engine's. Orders are carried out in the order in which
    they are given, without waiting for them; what came of them is collected. An exception that
    nobody expected, in an order or in a task, ends the thread, and the engine is told by
    :class:`NodeError` as soon as it asks.
    """

    def __init__(
        self,
        rank: Rank,
        blocks: BlockMap,
        transport: Transport,
        settings: ConnectorSettings,
        view: View = NO_CACHE,
        secret: bytes | None = None,
    ) -> None:
        """The node closes *transport* when it ends, and *view*, which shows peers what the engine's
        prefix cache holds. *secret* is the service's; None: anybody is a peer."""
        self._rank = rank
        self._engine = split_engine_id(rank.engine_id)
        self._blocks = blocks
        self._transport = transport
        self._settings = settings
        self._view = view
        self._secret = secret
        self._received: deque[Reception] = deque()
        self._pulled: deque[Pulled] = deque()
        self._prefix_reads: deque[PrefixRead] = deque()
        self._ended: deque[Ended] = deque()
        self._load = Load()
        self._receiver: Receiver | None = None
        self._news = threading.Event()
        self._leases = LeaseTable(
            settings.lease_seconds,
            settings.keep_limit_seconds,
            max_pinned_blocks=int(MAX_PINNED_SHARE * blocks.block_count),
        )
        self._digester = Digester(blocks) if blocks.memory == "dram" else None
        self._thread: LoopThread[_Running] = LoopThread("kv-transfer", self._serve)
        self._serving = False

    def start(self) -> None:
        """Listen, and be ready for orders.

        Raises:
            NodeError: the side channel's port is taken.
        """
        try:
            self._thread.start()
        except Exception as error:
            self.close()
            address = f"{self._settings.host}:{self._port}"
            raise NodeError(f"no side channel on {address}: {error}") from error

    def order(self, work: Callable[[LeaseTable, Receiver], None]) -> None:
        """Have *work* done in the thread, which owns both of its arguments.

        Raises:
            NodeError: the thread has ended.
        """
        self._check()
        self._thread.call(lambda running: self._do(work, running))

    def pull(self, pull: Pull) -> None:
        """Have a prefix pulled.

        Raises:
            NodeError: the thread has ended.
        """
        self._check()
        self._thread.call(lambda running: self._pull(pull, running))

    def drop_pull(self, request_id: str) -> None:
        """Have the pull of a request end that is over.

        Raises:
            NodeError: the thread has ended.
        """
        self._check()
        self._thread.call(lambda running: running.puller.drop(request_id))

    def wait_for_news(self, seconds: float) -> bool:
        """Return when there is something new to take, and whether there is after *seconds*."""
        is_there = self._news.wait(seconds)
        self._news.clear()
        return is_there

    def take_received(self) -> list[Reception]:
        """Return what has been fetched, or could not be, since the last call.

        Raises:
            NodeError: the thread has ended, and what it was fetching with it.
        """
        self._check()
        return _drain(self._received)

    def take_pulled(self) -> list[Pulled]:
        """Return the prefixes that have been pulled, or were not, since the last call."""
        return _drain(self._pulled)

    def take_prefix_reads(self) -> list[PrefixRead]:
        """Return what has arrived for them since the last call, of use or not."""
        return _drain(self._prefix_reads)

    def take_ended(self) -> list[Ended]:
        """Return the leases that have ended since the last call; their blocks are free."""
        return _drain(self._ended)

    @property
    def load(self) -> Load:
        """As it was a quarter of a second ago at most, and at least as new as what was taken."""
        return self._load

    def close(self) -> None:
        """End the thread, and what moves with it."""
        self._thread.call(lambda running: running.stop(None))
        if not self._thread.join():
            return
        if self._digester is not None:
            self._digester.close()
        self._transport.close()

    def _check(self) -> None:
        if not self._serving:
            raise NodeError("the KV transfer thread has ended")

    @property
    def _port(self) -> int:
        return self._settings.port + self._rank.rank

    async def _serve(self) -> None:
        try:
            async with Desk(
                self._host(),
                self._leases,
                returned=self._collect,
                digester=self._digester,
                view=self._view,
            ) as desk:
                await self._serve_at(desk)
        finally:
            await self._view.close()

    async def _serve_at(self, desk: Desk) -> None:
        server = await asyncio.start_server(desk.serve, self._settings.host, self._port)
        try:
            service = self._bind()
            async with asyncio.TaskGroup() as tasks:
                await self._move(tasks, desk, service)
        finally:
            self._serving = False
            # Not waited for: since Python 3.12 that takes until the desk ends the readers.
            server.close()

    async def _move(
        self, tasks: asyncio.TaskGroup, desk: Desk, service: "grpc.aio.Server | None"
    ) -> None:
        """Keep leases and fetch blocks until the node is closed."""
        links = Links(self._transport, self._hello(), tasks, secret=self._secret)
        interval = self._settings.lease_seconds / RENEWALS_PER_LEASE
        keeper = Keeper(links, tasks, interval=interval)
        verifying = self._digester if self._verifies() else None
        receiver = Receiver(
            links,
            keeper,
            tasks,
            limit_seconds=self._settings.read_seconds,
            received=self._receive,
            digester=verifying,
        )
        puller = Puller(
            links,
            tasks,
            block_bytes=self._blocks.bytes_per_block,
            unmeasured_bytes_per_second=self._settings.link_bytes_per_second,
            limit_seconds=self._settings.read_limit_seconds,
            pulled=self._take_in,
            arrived=self._note_arrival,
            digester=verifying,
        )
        self._receiver = receiver
        running = _Running(receiver, puller)
        async with AsyncExitStack() as inspected:
            if service is not None:
                inspection = self._inspection(links, keeper, desk)
                await inspected.enter_async_context(serving(service, inspection))
            endless = [tasks.create_task(keeper.run()), tasks.create_task(self._expire())]
            self._serving = True
            self._thread.note_serving(running)
            await running.until_stopped
            self._serving = False
        for task in endless:
            task.cancel()
        links.close()

    def _verifies(self) -> bool:
        return self._settings.verify and not self._transport.checks_integrity

    def _bind(self) -> "grpc.aio.Server | None":
        if self._settings.service_port is None:
            return None
        return bind(self._settings.host, self._settings.service_port + self._rank.rank)

    def _do(self, work: Callable[[LeaseTable, Receiver], None], running: "_Running") -> None:
        if not self._serving:
            return
        try:
            work(self._leases, running.receiver)
            self._collect()
        except Exception as error:  # noqa: BLE001  the loop would only log it
            self._serving = False
            running.stop(error)

    def _pull(self, pull: Pull, running: "_Running") -> None:
        if self._serving:
            running.puller.pull(pull)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_SECONDS)
            self._collect()
            self._count()
            if (reason := self._transport.ended_for) is not None:
                raise NodeError(f"the transport has ended: {reason}")

    def _receive(self, reception: Reception) -> None:
        self._count()
        self._received.append(reception)
        self._news.set()

    def _take_in(self, pulled: Pulled) -> None:
        self._pulled.append(pulled)
        self._news.set()

    def _note_arrival(self, transfer: Transfer) -> None:
        self._prefix_reads.append(PrefixRead(transfer.size_bytes, transfer.seconds))

    def _collect(self) -> None:
        if ended := self._leases.collect(time.monotonic()):
            self._count()
            self._ended.extend(ended)
            self._news.set()

    def _count(self) -> None:
        if self._receiver is not None:
            self._load = load_of(self._leases, self._receiver, time.monotonic())

    def _inspection(self, links: Links, keeper: Keeper, desk: Desk) -> Inspection:
        identity = Identity(*self._engine, self._rank.rank, self._transport.name)
        return Inspection(identity, links, keeper, desk, self._leases, released=self._collect)

    def _host(self) -> Host:
        worker, incarnation = self._engine
        welcome = Welcome(
            worker=worker,
            incarnation=incarnation,
            blocks=self._blocks,
            description=self._transport.describe(),
        )
        return Host(
            welcome,
            self._rank.compatibility,
            self._transport.name,
            self._rank.tensor_parallel,
            self._rank.rank,
            self._secret,
        )

    def _hello(self) -> Hello:
        return Hello(
            compatibility=self._rank.compatibility,
            transport=self._transport.name,
            tensor_parallel=self._rank.tensor_parallel,
            block_bytes=self._blocks.block_bytes,
            reader=Reader(*self._engine, self._rank.rank),
        )


class _Running:
    """What the thread has once it serves."""

    def __init__(self, receiver: Receiver, puller: Puller) -> None:
        self.receiver = receiver
        self.puller = puller
        loop = asyncio.get_running_loop()
        self.until_stopped: asyncio.Future[None] = loop.create_future()

    def stop(self, error: Exception | None) -> None:
        """End it, for *error* or because it was asked for."""
        if self.until_stopped.done():
            return
        if error is None:
            self.until_stopped.set_result(None)
        else:
            self.until_stopped.set_exception(error)


def _drain(results: deque[T]) -> list[T]:
    taken = []
    while results:
        taken.append(results.popleft())
    return taken
