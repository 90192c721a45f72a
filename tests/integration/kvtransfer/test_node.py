"""Nodes: threads that lend blocks to each other and fetch them, seen from the engine's thread."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import psutil
import pytest
from tests.integration.kvtransfer.holder_process import BLOCK_BYTES, holder_process
from tests.integration.kvtransfer.holders import LOCALHOST, LONG, WAIT_SECONDS, free_ports

from twofold_kvtransfer.blocks import BlockMap, Move
from twofold_kvtransfer.lease import Cause
from twofold_kvtransfer.leases import Ended, LeaseTable
from twofold_kvtransfer.node import Node, NodeError, Rank
from twofold_kvtransfer.receiving import Failure, Receiver, Reception
from twofold_kvtransfer.settings import ConnectorSettings
from twofold_kvtransfer.sources import Source
from twofold_kvtransfer.transports import Transport
from twofold_kvtransfer.transports.tcp import TcpTransport
from twofold_kvtransfer.transports.testing import (
    Fault,
    HostBlocks,
    MemoryNetwork,
    MemoryPair,
    MemoryTransport,
    host_blocks,
)

LOCAL = (6, 7)
Make = Callable[[HostBlocks], Transport]
T = TypeVar("T")


@dataclass
class Engine:
    """An engine's thread, which is the test's, with its node."""

    engine_id: str
    port: int
    blocks: HostBlocks
    node: Node

    def grant(self, name: str) -> Source:
        self.node.order(lambda leases, receiver: leases.grant(name, time.monotonic()))
        return Source(self.engine_id, name, LOCALHOST, self.port, 1, (0, 1))

    def fetch(self, source: Source, name: str = "mine") -> None:
        def work(leases: LeaseTable, receiver: Receiver) -> None:
            receiver.await_turn(source)
            receiver.fetch(name, source, LOCAL)

        self.node.order(work)

    def received(self) -> Reception:
        return _only(self.node.take_received)

    def ended(self) -> Ended:
        return _only(self.node.take_ended)


@contextmanager
def engine(
    make: Make,
    engine_id: str = "d:1",
    *,
    blocks: HostBlocks | None = None,
    port: int | None = None,
    lease_seconds: float = LONG,
    secret: bytes | None = None,
) -> Iterator[Engine]:
    blocks = blocks or host_blocks(3, 8, 64)
    port = port or free_ports(1)
    settings = ConnectorSettings(
        host=LOCALHOST, port=port, lease_seconds=lease_seconds, read_limit_seconds=LONG
    )
    node = Node(Rank(engine_id, "c"), blocks.map, make(blocks), settings, secret=secret)
    try:
        node.start()
        yield Engine(engine_id, port, blocks, node)
    finally:
        node.close()


@pytest.fixture(params=["memory", "tcp"])
def make(request: pytest.FixtureRequest) -> Make:
    if request.param == "memory":
        return MemoryNetwork().join
    return lambda blocks: TcpTransport(blocks.map)


def test_blocks_move_between_two_nodes_and_their_lease_ends(make: Make) -> None:
    with engine(make, "p:1", blocks=host_blocks(3, 8, 64, seed=1)) as there, engine(make) as here:
        here.fetch(there.grant("r"))
        reception = here.received()

        assert (reception.failure, reception.size_bytes) == (None, 2 * 3 * 64)
        np.testing.assert_array_equal(here.blocks.cells(LOCAL), there.blocks.cells((0, 1)))
        assert there.ended() == Ended("r", Cause.READ)


@pytest.mark.parametrize(("secret", "failure"), [(b"s", None), (b"t", Failure.LINK)])
def test_nodes_are_peers_by_their_secret(secret: bytes, failure: Failure | None) -> None:
    make = MemoryNetwork().join
    with engine(make, "p:1", secret=b"s") as there, engine(make, secret=secret) as here:
        here.fetch(there.grant("r"))

        assert here.received().failure is failure


def test_who_waits_for_news_is_woken_by_blocks_and_by_leases_that_end(make: Make) -> None:
    with engine(make, "p:1", blocks=host_blocks(3, 8, 64, seed=1)) as there, engine(make) as here:
        source = there.grant("r")
        assert not here.node.wait_for_news(0.0)
        here.fetch(source)

        assert here.node.wait_for_news(WAIT_SECONDS)
        assert [reception.failure for reception in here.node.take_received()] == [None]
        assert there.node.wait_for_news(WAIT_SECONDS)
        assert there.node.take_ended() == [Ended("r", Cause.READ)]


def test_two_nodes_fetch_from_each_other(make: Make) -> None:
    with (
        engine(make, "p:1", blocks=host_blocks(3, 8, 64, seed=1)) as one,
        engine(make, "q:1", blocks=host_blocks(3, 8, 64, seed=2)) as other,
    ):
        expected = one.blocks.cells((0, 1)), other.blocks.cells((0, 1))
        one.fetch(other.grant("r"))
        other.fetch(one.grant("s"))

        assert one.received().failure is None
        assert other.received().failure is None
        np.testing.assert_array_equal(other.blocks.cells(LOCAL), expected[0])
        np.testing.assert_array_equal(one.blocks.cells(LOCAL), expected[1])


def test_a_lease_that_nobody_claims_ends_by_itself(make: Make) -> None:
    with engine(make, lease_seconds=0.01) as here:
        here.grant("r")

        assert here.ended() == Ended("r", Cause.EXPIRED)


def test_a_peer_that_is_killed_fails_what_moves() -> None:
    blocks = host_blocks(1, 8, BLOCK_BYTES)
    with (
        holder_process(free_ports(1)) as (process, source),
        engine(lambda blocks: TcpTransport(blocks.map), blocks=blocks) as here,
    ):
        here.fetch(source)
        wait_until(lambda: here.blocks.memory.any())
        assert here.node.take_received() == []
        process.kill()

        assert here.received().failure is Failure.TRANSFER
        written = here.blocks.memory.copy()
        here.fetch(source)
        assert here.received().failure is Failure.LINK
        np.testing.assert_array_equal(here.blocks.memory, written)


def test_a_port_that_is_taken_is_an_error_that_leaves_nothing_behind() -> None:
    blocks = host_blocks(3, 8, 64)
    network = MemoryNetwork()
    transport = network.join(blocks)
    with socket.create_server((LOCALHOST, 0)) as taken:
        settings = ConnectorSettings(host=LOCALHOST, port=taken.getsockname()[1])
        node = Node(Rank("d:1", "c"), blocks.map, transport, settings)

        with pytest.raises(NodeError, match=f"no side channel on {LOCALHOST}:.*in use"):
            node.start()
        assert not transport.is_reachable()
        assert _threads() == []
        with pytest.raises(NodeError):
            node.take_received()


def test_a_port_beyond_all_is_an_error() -> None:
    blocks = host_blocks(3, 8, 64)
    settings = ConnectorSettings(host=LOCALHOST, port=65535)
    node = Node(Rank("d:1", "c", 2, 1), blocks.map, MemoryNetwork().join(blocks), settings)

    with pytest.raises(NodeError, match="65536"):
        node.start()


def test_an_order_that_raises_ends_the_node_and_is_not_waited_for(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def work(leases: LeaseTable, receiver: Receiver) -> None:
        raise RuntimeError("a bug")

    with engine(make) as here:
        here.node.order(work)

        wait_until_it_raises(here.node.take_received)
        with pytest.raises(NodeError):
            here.node.order(work)
        wait_until(lambda: not _threads())
    assert "a bug" in caplog.text
    assert caplog.records[-1].levelno == logging.ERROR


class BrokenTransport(MemoryTransport):
    """Has a bug where blocks are read."""

    def open(self, description: bytes, remote: BlockMap) -> MemoryPair:
        pair = super().open(description, remote)

        def read(move: Move) -> None:
            raise RuntimeError("a bug")

        pair.read = read  # type: ignore[method-assign, assignment]
        return pair


def test_a_task_that_raises_ends_the_node_and_is_not_waited_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network = MemoryNetwork()

    def make_broken(blocks: HostBlocks) -> Transport:
        return BrokenTransport(network, blocks, checks_integrity=True)

    with engine(network.join, "p:1") as there, engine(make_broken) as here:
        here.fetch(there.grant("r"))

        wait_until_it_raises(here.node.take_received)
        there.grant("s")
        assert there.node.take_received() == []
    assert "a bug" in caplog.text


def test_a_node_ends_with_its_transport(caplog: pytest.LogCaptureFixture) -> None:
    blocks = host_blocks(3, 8, 64)
    transport = MemoryTransport(MemoryNetwork(), blocks, checks_integrity=True)

    with engine(lambda _: transport, blocks=blocks) as here:
        assert here.node.take_received() == []
        transport.ended_for = "timeout: no answer"

        wait_until_it_raises(here.node.take_received)
    assert "the transport has ended: timeout: no answer" in caplog.text


class MuteTransport(MemoryTransport):
    """Has a bug where it describes itself."""

    def describe(self) -> bytes:
        if hasattr(self, "blocks"):
            raise RuntimeError("a bug")
        return b""


def test_a_node_that_cannot_begin_says_so_at_once() -> None:
    blocks = host_blocks(3, 8, 64)
    transport = MuteTransport(MemoryNetwork(), blocks, checks_integrity=True)
    transport.close = lambda: None  # type: ignore[method-assign]
    settings = ConnectorSettings(host=LOCALHOST, port=free_ports(1))
    node = Node(Rank("d:1", "c"), blocks.map, transport, settings)

    with pytest.raises(NodeError, match="a bug"):
        node.start()


def test_a_node_closes_while_blocks_move_and_leaves_nothing_behind() -> None:
    network = MemoryNetwork()
    before = psutil.Process().num_fds()
    with engine(network.join, "p:1") as there, engine(network.join) as here:
        transport = here.node._transport
        assert isinstance(transport, MemoryTransport)
        for number in range(10):
            transport.inject(Fault.HANG)
            here.fetch(there.grant(f"r{number}"), f"mine{number}")
        wait_until(lambda: transport._pairs and len(transport._pairs[0]._transfers) == 10)
        here.node.close()

        assert len(here.node._received) == 10
        assert {reception.failure for reception in here.node._received} == {Failure.TRANSFER}
        assert not transport.is_reachable()
        with pytest.raises(NodeError):
            here.node.take_received()
        with pytest.raises(NodeError):
            here.fetch(there.grant("late"))
        here.node.close()
        socket.create_server((LOCALHOST, here.port)).close()
    assert _threads() == []
    assert psutil.Process().num_fds() == before


def test_a_node_that_was_never_started_closes() -> None:
    blocks = host_blocks(3, 8, 64)
    transport = MemoryNetwork().join(blocks)
    Node(Rank("d:1", "c"), blocks.map, transport, ConnectorSettings(host=LOCALHOST, port=1)).close()

    assert not transport.is_reachable()


def test_a_second_rank_listens_on_the_next_port() -> None:
    network = MemoryNetwork()
    blocks, port = host_blocks(3, 8, 64), free_ports(2)
    settings = ConnectorSettings(host=LOCALHOST, port=port)
    node = Node(Rank("p:1", "c", 2, 1), blocks.map, network.join(blocks), settings)
    node.start()
    try:
        socket.create_connection((LOCALHOST, port + 1)).close()
    finally:
        node.close()


def _only(take: Callable[[], list[T]]) -> T:
    """Take results until there is one, and no more than one."""
    taken: list[T] = []

    def look() -> list[T]:
        taken.extend(take())
        return taken

    wait_until(look)
    assert len(taken) == 1
    return taken[0]


def wait_until(what: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + WAIT_SECONDS
    while not what():
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


def wait_until_it_raises(what: Callable[[], object]) -> None:
    def raises() -> bool:
        try:
            what()
        except NodeError:
            return True
        return False

    wait_until(raises)


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "kv-transfer"]
