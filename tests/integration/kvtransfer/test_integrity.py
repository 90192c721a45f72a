"""Two nodes over real transports that do not check what arrives: damage is found all the same."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from tests.integration.kvtransfer.gates import Gate, GatedTransport, only
from tests.integration.kvtransfer.holders import LOCALHOST, LONG, WAIT_SECONDS, free_ports

from twofold_kvtransfer.blocks import BlockIds, BlockMap
from twofold_kvtransfer.digesting import BLOCKS_PER_DIGEST, Digester
from twofold_kvtransfer.lease import Cause
from twofold_kvtransfer.leases import Ended, LeaseTable
from twofold_kvtransfer.node import Node, Rank
from twofold_kvtransfer.receiving import Failure, Receiver
from twofold_kvtransfer.settings import ConnectorSettings
from twofold_kvtransfer.sources import Source
from twofold_kvtransfer.transports import Transport
from twofold_kvtransfer.transports.nixl import NixlTransport
from twofold_kvtransfer.transports.tcp import TcpSettings, TcpTransport
from twofold_kvtransfer.transports.testing import HostBlocks, host_blocks

COUNT = BLOCKS_PER_DIGEST + 4
REMOTE = tuple(range(COUNT))
LOCAL = tuple(range(3, 3 + COUNT))

Make = Callable[[BlockMap], Transport]
MAKERS: dict[str, Make] = {
    "tcp": lambda blocks: TcpTransport(blocks, TcpSettings(checksum=False)),
    "nixl": NixlTransport,
}


class WatchedDigester(Digester):
    """Tells when its digests are made, and can be made to keep them."""

    def __init__(self, blocks: BlockMap) -> None:
        super().__init__(blocks)
        self.made = threading.Event()
        self.keeps_them = False

    async def digest(self, ids: BlockIds, part: tuple[int, int] = (0, 1)) -> list[int]:
        digests = await super().digest(ids, part)
        self.made.set()
        while self.keeps_them:  # set by another thread
            await asyncio.sleep(0.001)
        return digests


@dataclass
class Engine:
    engine_id: str
    port: int
    blocks: HostBlocks
    node: Node
    gate: Gate
    digester: WatchedDigester

    def grant(self, name: str) -> Source:
        self.node.order(lambda leases, receiver: leases.grant(name, time.monotonic()))
        return Source(self.engine_id, name, LOCALHOST, self.port, 1, REMOTE)

    def fetched(self, source: Source) -> Failure | None:
        """Fetch the blocks of *source*, and say how it ended."""
        self.order(source)
        return self.result()

    def order(self, source: Source) -> None:
        def work(leases: LeaseTable, receiver: Receiver) -> None:
            receiver.await_turn(source)
            receiver.fetch("mine", source, LOCAL)

        self.node.order(work)

    def result(self) -> Failure | None:
        return only(self.node.take_received).failure


@contextmanager
def engine(
    make: Make, engine_id: str, blocks: HostBlocks, *, limit_seconds: float = LONG, rank: Rank
) -> Iterator[Engine]:
    settings = ConnectorSettings(
        host=LOCALHOST,
        port=free_ports(2),
        lease_seconds=LONG,
        keep_limit_seconds=LONG,
        read_limit_seconds=limit_seconds,
    )
    transport = GatedTransport(make(blocks.map))
    node = Node(rank, blocks.map, transport, settings)
    node._digester = digester = WatchedDigester(blocks.map)
    try:
        node.start()
        port = settings.port + rank.rank
        yield Engine(engine_id, port, blocks, node, transport.gate, digester)
    finally:
        digester.keeps_them = False
        node.close()


@pytest.fixture(params=list(MAKERS))
def make(request: pytest.FixtureRequest) -> Make:
    name: str = request.param
    return MAKERS[name]


@contextmanager
def two(make: Make, *, limit_seconds: float = LONG) -> Iterator[tuple[Engine, Engine]]:
    with (
        engine(make, "p:1", host_blocks(3, 32, 64, seed=1), rank=Rank("p:1", "c")) as there,
        engine(
            make, "d:1", host_blocks(3, 32, 64), limit_seconds=limit_seconds, rank=Rank("d:1", "c")
        ) as here,
    ):
        yield there, here


def test_undamaged_blocks_are_used(make: Make) -> None:
    with two(make) as (there, here):
        assert here.fetched(there.grant("r")) is None

        np.testing.assert_array_equal(here.blocks.cells(LOCAL), there.blocks.cells(REMOTE))
        assert only(there.node.take_ended) == Ended("r", Cause.READ)


def test_a_node_that_is_closed_reads_no_memory_any_more(make: Make) -> None:
    with two(make) as (there, here):
        assert here.fetched(there.grant("r")) is None
        assert _digesting_threads()

    assert not _digesting_threads()


@pytest.mark.parametrize("region", [0, 2])
def test_a_bit_that_flips_between_arrival_and_check_is_found(make: Make, region: int) -> None:
    with two(make) as (there, here):

        def flip() -> None:
            here.blocks.memory[region, LOCAL[-1], 63] ^= 128

        here.gate.when_done = flip
        source = there.grant("r")
        assert here.fetched(source) is Failure.INTEGRITY
        here.gate.when_done = lambda: None

        assert here.fetched(source) is None  # the lease was left as it was
        np.testing.assert_array_equal(here.blocks.cells(LOCAL), there.blocks.cells(REMOTE))


def test_a_bit_that_flips_after_the_holder_has_digested_it_is_found(make: Make) -> None:
    with two(make) as (there, here):
        here.gate.may_begin.clear()
        here.order(there.grant("r"))
        assert there.digester.made.wait(WAIT_SECONDS)
        there.blocks.memory[1, REMOTE[0], 0] ^= 1
        here.gate.may_begin.set()

        assert here.result() is Failure.INTEGRITY
        assert there.node.take_ended() == []


def test_a_holder_that_does_not_answer_is_not_trusted(make: Make) -> None:
    with two(make, limit_seconds=0.2) as (there, here):
        there.digester.keeps_them = True

        assert here.fetched(there.grant("r")) is Failure.LATE
        assert there.node.take_ended() == []


@pytest.mark.parametrize("rank", [0, 1])
def test_parts_of_blocks_are_checked(make: Make, rank: int) -> None:
    part = host_blocks(3, 32, 32)
    with (
        engine(make, "p:1", host_blocks(3, 32, 64, seed=1), rank=Rank("p:1", "c")) as there,
        engine(make, "d:1", part, rank=Rank("d:1", "c", 2, rank)) as here,
    ):
        source = there.grant("r")
        assert here.fetched(source) is None
        np.testing.assert_array_equal(
            part.cells(LOCAL), there.blocks.cells(REMOTE, (32 * rank, 32))
        )

        def flip() -> None:
            part.memory[0, LOCAL[0], 0] ^= 1

        here.gate.when_done = flip
        assert here.fetched(there.grant("s")) is Failure.INTEGRITY


def test_who_trusts_its_transport_asks_for_no_digests() -> None:
    with two(MAKERS["tcp"]) as (there, _):
        blocks = host_blocks(3, 32, 64)
        settings = ConnectorSettings(host=LOCALHOST, port=free_ports(1), verify=False)
        transport = GatedTransport(MAKERS["tcp"](blocks.map))
        node = Node(Rank("e:1", "c"), blocks.map, transport, settings)
        node.start()
        try:
            reader = Engine("e:1", settings.port, blocks, node, transport.gate, there.digester)
            assert reader.fetched(there.grant("r")) is None
            assert not there.digester.made.is_set()
        finally:
            node.close()


def _digesting_threads() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("kv-digests")]
