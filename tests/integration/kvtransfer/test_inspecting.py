"""What two nodes tell of each other over real gRPC."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import grpc
import pytest
from tests.integration.kvtransfer.holders import LOCALHOST, LONG, WAIT_SECONDS, free_ports

from twofold_cluster.rpc import kvtransfer_pb2 as pb
from twofold_cluster.rpc.kvtransfer_pb2_grpc import KvTransferStub
from twofold_kvtransfer.inspecting import MAX_LEASES_TOLD
from twofold_kvtransfer.lease import Cause
from twofold_kvtransfer.leases import Ended, LeaseTable
from twofold_kvtransfer.node import Node, NodeError, Rank
from twofold_kvtransfer.receiving import Receiver
from twofold_kvtransfer.settings import ConnectorSettings
from twofold_kvtransfer.sources import Source
from twofold_kvtransfer.transports.testing import Fault, MemoryNetwork, MemoryTransport, host_blocks

T = TypeVar("T")


class Engine:
    """A node whose leases and fetches the test orders, and a client of its service."""

    def __init__(
        self, network: MemoryNetwork, name: str, port: int, service_port: int | None = None
    ) -> None:
        blocks = host_blocks(3, 8, 64)
        self.name, self.port = name, port
        self.transport: MemoryTransport = network.join(blocks)
        settings = ConnectorSettings(
            host=LOCALHOST,
            port=port,
            service_port=service_port or port + 1,
            lease_seconds=LONG,
            read_limit_seconds=LONG,
        )
        self.node = Node(Rank(name, "c"), blocks.map, self.transport, settings)
        self.channel = grpc.insecure_channel(
            f"{LOCALHOST}:{port + 1}", options=[("grpc.enable_http_proxy", 0)]
        )
        self.stub = KvTransferStub(self.channel)

    def grant(self, name: str, block_count: int = 0) -> Source:
        self.node.order(lambda leases, _: leases.grant(name, time.monotonic(), block_count))
        return Source(self.name, name, LOCALHOST, self.port, 1, (0, 1))

    def fetch(self, source: Source) -> None:
        def work(_: LeaseTable, receiver: Receiver) -> None:
            receiver.await_turn(source)
            receiver.fetch("mine", source, (6, 7))

        self.node.order(work)

    def peers(self) -> pb.PeersReply:
        return self.stub.Peers(pb.PeersRequest(), timeout=WAIT_SECONDS)

    def leases(self) -> pb.LeasesReply:
        return self.stub.Leases(pb.LeasesRequest(), timeout=WAIT_SECONDS)

    def pin(self, name: str, seconds: float) -> None:
        request = pb.PinLeaseRequest(request_id=name, seconds=seconds)
        self.stub.Pin(request, timeout=WAIT_SECONDS)

    def release(self, name: str) -> None:
        self.stub.Release(pb.ReleaseRequest(request_id=name), timeout=WAIT_SECONDS)


@contextmanager
def running(network: MemoryNetwork, name: str) -> Iterator[Engine]:
    engine = Engine(network, name, free_ports(2))
    try:
        engine.node.start()
        yield engine
    finally:
        engine.channel.close()
        engine.node.close()


@pytest.fixture
def two() -> Iterator[tuple[Engine, Engine]]:
    """One that lends blocks, and one that fetches them."""
    network = MemoryNetwork()
    with running(network, "p:1") as there, running(network, "d:1") as here:
        yield there, here


def test_both_sides_of_a_link_tell_of_it(two: tuple[Engine, Engine]) -> None:
    there, here = two
    stranger = socket.create_connection((LOCALHOST, there.port))
    here.fetch(there.grant("r"))
    wait_until(here.node.take_received)
    here.transport.inject(Fault.FAIL)
    here.fetch(there.grant("s"))
    wait_until(here.node.take_received)

    told = here.peers()
    (link,) = told.links
    assert (told.worker, told.incarnation, told.rank, told.transport) == ("d", "1", 0, "memory")
    assert (link.worker, link.incarnation) == ("p", "1")
    assert link.address == f"{LOCALHOST}:{there.port}"
    assert (link.transfers_done, link.transfers_failed, link.read_bytes) == (1, 1, 2 * 3 * 64)
    assert link.bytes_per_second > 0
    assert link.open_seconds > 0
    (reader,) = there.peers().readers
    assert (reader.worker, reader.incarnation, reader.rank) == ("d", "1", 0)
    assert reader.connected_seconds > 0
    stranger.close()


def test_a_lease_is_told_of_by_who_keeps_it_and_by_who_needs_it(
    two: tuple[Engine, Engine],
) -> None:
    there, here = two
    there.node.order(lambda leases, _: leases.promise("promised"))
    here.transport.inject(Fault.HANG)
    here.fetch(there.grant("r"))
    wait_until(lambda: there.leases().leases[1].readers)

    told = there.leases()
    promised, held = told.leases
    assert (told.worker, told.promised_count, told.held_count) == ("p", 1, 1)
    assert promised == pb.Lease(request_id="promised", state=pb.LEASE_STATE_PROMISED)
    assert (held.request_id, held.state) == ("r", pb.LEASE_STATE_HELD)
    assert 0 < held.left_seconds <= LONG
    assert held.HasField("age_seconds")
    assert held.readers[0] == pb.LeaseReader(worker="d", incarnation="1")
    wait_until(lambda: here.peers().links)
    assert here.peers().links[0].lease_count == 1


def test_a_lease_that_is_released_ends_for_that_reason(two: tuple[Engine, Engine]) -> None:
    there, _ = two
    there.grant("r")
    there.release("r")

    assert wait_until(there.node.take_ended) == [Ended("r", Cause.RELEASED)]
    assert there.leases() == pb.LeasesReply(worker="p", incarnation="1")


def test_a_lease_that_is_released_while_it_is_read_ends_with_its_reader(
    two: tuple[Engine, Engine],
) -> None:
    there, here = two
    here.transport.inject(Fault.HANG)
    here.fetch(there.grant("r"))
    wait_until(lambda: there.leases().leases[0].readers)
    there.release("r")

    assert there.leases().leases[0].state == pb.LEASE_STATE_ENDING
    assert there.node.take_ended() == []


def test_a_lease_that_is_pinned_is_told_of_and_ends_by_release(
    two: tuple[Engine, Engine],
) -> None:
    there, _ = two
    there.grant("r")
    there.pin("r", 10 * LONG)

    told = there.leases()
    assert (told.held_count, told.pinned_count) == (1, 1)
    assert LONG < told.leases[0].pinned_seconds <= 10 * LONG
    assert told.leases[0].left_seconds == told.leases[0].pinned_seconds
    there.release("r")
    assert wait_until(there.node.take_ended) == [Ended("r", Cause.RELEASED)]


@pytest.mark.parametrize(
    ("name", "seconds", "code"),
    [
        ("never", 1.0, grpc.StatusCode.NOT_FOUND),
        ("", 1.0, grpc.StatusCode.INVALID_ARGUMENT),
        ("r", 0.0, grpc.StatusCode.INVALID_ARGUMENT),
        ("r", 1e6, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_a_pin_of_nothing_or_for_no_time_is_refused(
    two: tuple[Engine, Engine], name: str, seconds: float, code: grpc.StatusCode
) -> None:
    two[0].grant("r")

    with pytest.raises(grpc.RpcError) as refused:
        two[0].pin(name, seconds)

    assert refused.value.code() is code


def test_pins_keep_at_most_half_of_the_cache(two: tuple[Engine, Engine]) -> None:
    two[0].grant("half", 4)
    two[0].grant("more", 1)
    two[0].pin("half", 100.0)

    with pytest.raises(grpc.RpcError, match="pins may keep 4 blocks") as refused:
        two[0].pin("more", 1.0)

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("never", grpc.StatusCode.NOT_FOUND),
        ("", grpc.StatusCode.INVALID_ARGUMENT),
        ("x" * 1025, grpc.StatusCode.INVALID_ARGUMENT),
        ("x" * 100_000, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
)
def test_a_release_of_nothing_is_refused(
    two: tuple[Engine, Engine], name: str, code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        two[0].release(name)

    assert refused.value.code() is code


def test_an_answer_names_no_more_leases_than_its_bound(two: tuple[Engine, Engine]) -> None:
    for number in range(MAX_LEASES_TOLD + 1):
        two[0].grant(f"r{number}")

    told = two[0].leases()
    assert told.held_count == MAX_LEASES_TOLD + 1
    assert len(told.leases) == MAX_LEASES_TOLD


def test_a_service_port_of_another_node_ends_the_node_with_its_address(
    two: tuple[Engine, Engine],
) -> None:
    taken = two[0].port + 1
    late = Engine(MemoryNetwork(), "q:1", free_ports(1), taken)
    try:
        with pytest.raises(NodeError, match=f"no inspection at {LOCALHOST}:{taken}"):
            late.node.start()
    finally:
        late.channel.close()


def test_a_node_that_is_closed_leaves_both_ports(two: tuple[Engine, Engine]) -> None:
    two[0].node.close()

    for port in (two[0].port, two[0].port + 1):
        socket.create_server((LOCALHOST, port)).close()


def wait_until(what: Callable[[], T]) -> T:
    """Return what is true of *what*, as soon as something is."""
    give_up_at = time.monotonic() + WAIT_SECONDS
    while not (found := what()):
        assert time.monotonic() < give_up_at
        time.sleep(0.001)
    return found
