"""Links over real sockets, to processes that hold blocks in memory."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import numpy as np
import pytest
from tests.integration.kvtransfer.holders import (
    LOCALHOST,
    LONG,
    drop_connections,
    free_ports,
    hello,
    holding,
    listening,
    until,
)

from twofold_kvtransfer.blocks import BlockMap, Move
from twofold_kvtransfer.digesting import Digester
from twofold_kvtransfer.links import LinkError, Links
from twofold_kvtransfer.side_channel import Hello, Patience
from twofold_kvtransfer.sources import Source
from twofold_kvtransfer.transports import TransferState
from twofold_kvtransfer.transports.testing import (
    Fault,
    HostBlocks,
    MemoryNetwork,
    MemoryPair,
    MemoryTransport,
    host_blocks,
)

MOVE = Move((0, 1), (2, 3))


@asynccontextmanager
async def linking(
    transport: MemoryTransport, says: Hello | None = None, patience: Patience | None = None
) -> AsyncIterator[Links]:
    async with asyncio.TaskGroup() as tasks:
        links = Links(transport, says or hello(), tasks, patience=patience or Patience(LONG, LONG))
        try:
            yield links
        finally:
            links.close()
    transport.close()


@pytest.fixture
def network() -> MemoryNetwork:
    return MemoryNetwork()


@pytest.fixture
def local() -> HostBlocks:
    return host_blocks(3, 8, 64)


@pytest.fixture
def transport(network: MemoryNetwork, local: HostBlocks) -> MemoryTransport:
    return network.join(local)


async def test_blocks_are_read_and_leases_claimed_over_a_link(
    network: MemoryNetwork, transport: MemoryTransport, local: HostBlocks
) -> None:
    async with holding(network) as holder, linking(transport) as links:
        link = await links.to(holder.grant("r"))

        assert await link.claim(["r"]) == [LONG]
        assert link.read(MOVE).poll() is TransferState.DONE
        np.testing.assert_array_equal(local.cells((0, 1)), holder.blocks.cells((2, 3)))


async def test_many_first_uses_open_one_link(
    network: MemoryNetwork, transport: MemoryTransport
) -> None:
    async with holding(network) as holder, linking(transport) as links:
        found = await asyncio.gather(*(links.to(holder.source(f"r{n}")) for n in range(20)))

        assert len(set(found)) == 1
        assert await links.to(holder.source("again")) is found[0]
        assert holder.desk.connection_count == 1


async def test_one_who_stops_waiting_leaves_the_link_to_the_others(
    network: MemoryNetwork, transport: MemoryTransport
) -> None:
    async with holding(network) as holder, linking(transport) as links:
        first, second = (asyncio.create_task(links.to(holder.source("r"))) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()

        assert await (await second).claim(["r"]) == [None]


async def test_a_link_that_was_lost_is_opened_anew(
    network: MemoryNetwork, transport: MemoryTransport
) -> None:
    async with holding(network) as holder, linking(transport) as links:
        source = holder.grant("r")
        lost = await links.to(source)
        transport.inject(Fault.HANG)
        moving = lost.read(MOVE)
        drop_connections(holder)
        await until(lambda: moving.poll() is not TransferState.MOVING)
        await until(lambda: not links._lines)
        link = await links.to(source)

        assert moving.poll() is TransferState.FAILED
        assert str(holder.port) in (moving.reason or "")
        with pytest.raises(LinkError):
            await lost.claim(["r"])
        assert await link.claim(["r"]) == [LONG]


async def test_a_peer_that_was_not_there_is_found_when_it_comes(
    network: MemoryNetwork, transport: MemoryTransport
) -> None:
    port = free_ports(1)
    source = Source("p:1", "r", LOCALHOST, port, 1, (0,))
    async with linking(transport) as links:
        for _ in range(2):
            with pytest.raises(LinkError, match=r"no link to p:1: .*no connection"):
                await links.to(source)
        async with holding(network, port=port):
            assert await (await links.to(source)).claim(["r"]) == [None]


async def test_a_new_incarnation_closes_the_link_to_the_old_and_fails_what_moves(
    network: MemoryNetwork, transport: MemoryTransport
) -> None:
    async with (
        holding(network, "p:1") as old,
        holding(network, "p:2") as new,
        linking(transport) as links,
    ):
        transport.inject(Fault.HANG)
        link = await links.to(old.grant("r"))
        moving = link.read(MOVE)
        following = await links.to(new.grant("s"))

        assert moving.poll() is TransferState.FAILED
        assert moving.reason == "p:1 was followed by p:2"
        assert await following.claim(["s"]) == [LONG]
        with pytest.raises(LinkError, match="p:1 was followed by p:2"):
            await link.claim(["r"])
        await until(lambda: old.desk.connection_count == 0)


async def test_an_incarnation_that_nobody_has_reached_fences_nothing(
    network: MemoryNetwork, transport: MemoryTransport
) -> None:
    async with (
        holding(network, "p:1") as holder,
        listening(_say_nothing) as port,
        linking(transport) as links,
    ):
        transport.inject(Fault.HANG)
        link = await links.to(holder.grant("r"))
        moving = link.read(MOVE)
        silent = asyncio.create_task(links.to(Source("p:9", "s", LOCALHOST, port, 1, (0,))))
        with pytest.raises(LinkError, match="p:1 is there now"):
            await links.to(Source("p:8", "s", LOCALHOST, holder.port, 1, (0,)))

        assert await links.to(holder.source("r")) is link
        assert await link.claim(["r"]) == [LONG]
        assert moving.poll() is TransferState.MOVING
        silent.cancel()


async def test_an_old_incarnation_is_refused_while_a_later_one_is_known(
    network: MemoryNetwork, transport: MemoryTransport
) -> None:
    async with (
        holding(network, "p:1") as old,
        holding(network, "p:2") as new,
        linking(transport) as links,
    ):
        await links.to(new.source("r"))

        with pytest.raises(LinkError, match="p:1 was followed by p:2"):
            await links.to(old.source("r"))
        assert old.desk.connection_count == 0


async def test_another_worker_is_no_incarnation(
    network: MemoryNetwork, transport: MemoryTransport
) -> None:
    async with (
        holding(network, "p:2") as one,
        holding(network, "q:1") as other,
        linking(transport) as links,
    ):
        assert await links.to(one.source("r")) is not await links.to(other.source("r"))
        assert one.desk.connection_count == other.desk.connection_count == 1


async def test_those_who_wait_for_an_old_incarnation_learn_of_the_new(
    network: MemoryNetwork, transport: MemoryTransport
) -> None:
    async with (
        listening(_say_nothing) as port,
        holding(network, "p:2") as new,
        linking(transport) as links,
    ):
        silent = Source("p:1", "r", LOCALHOST, port, 1, (0,))
        waiting = [asyncio.create_task(links.to(silent)) for _ in range(3)]
        await until(lambda: links._lines)
        await links.to(new.source("r"))

        for task in waiting:
            with pytest.raises(LinkError, match="was followed by p:2"):
                await task


async def test_a_link_that_is_closed_before_it_was_begun_is_refused(
    transport: MemoryTransport,
) -> None:
    async with linking(transport) as links:
        waiting = asyncio.create_task(links.to(Source("p:1", "r", LOCALHOST, 1, 1, (0,))))
        asyncio.get_running_loop().call_soon(links.close)

        with pytest.raises(LinkError, match="closed"):
            await waiting


async def test_another_incarnation_than_the_source_names_is_refused(
    network: MemoryNetwork, transport: MemoryTransport
) -> None:
    async with holding(network, "p:2") as holder, linking(transport) as links:
        source = Source("p:1", "r", LOCALHOST, holder.port, 1, (0,))

        with pytest.raises(LinkError, match="p:2 is there now"):
            await links.to(source)
        await until(lambda: holder.desk.connection_count == 0)


async def test_blocks_of_another_geometry_are_refused(
    network: MemoryNetwork, transport: MemoryTransport
) -> None:
    async with holding(network, block_bytes=65) as holder, linking(transport) as links:
        with pytest.raises(LinkError, match="65"):
            await links.to(holder.source("r"))
        await until(lambda: holder.desk.connection_count == 0)


async def test_a_peer_that_never_answers_is_no_link(transport: MemoryTransport) -> None:
    async with (
        listening(_say_nothing) as port,
        linking(transport, patience=Patience(LONG, 0.01)) as links,
    ):
        with pytest.raises(LinkError, match="does not answer"):
            await links.to(Source("p:1", "r", LOCALHOST, port, 1, (0,)))


class BrokenTransport(MemoryTransport):
    """Has a fault of its own, which some description brings to light."""

    def open(self, description: bytes, remote: BlockMap) -> MemoryPair:
        raise ZeroDivisionError("of nobody's making")


async def test_an_error_in_opening_a_pair_fails_that_link_and_is_logged_with_its_place(
    network: MemoryNetwork, local: HostBlocks, caplog: pytest.LogCaptureFixture
) -> None:
    transport = BrokenTransport(network, local, checks_integrity=True)
    async with holding(network) as holder, linking(transport) as links:
        with pytest.raises(LinkError, match="of nobody's making"):
            await links.to(holder.source("r"))
        await until(lambda: holder.desk.connection_count == 0)

    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_each_rank_reads_its_heads_from_the_rank_that_has_them(
    network: MemoryNetwork,
) -> None:
    port = free_ports(2)
    async with AsyncExitStack() as stack:
        holders = [
            await stack.enter_async_context(
                holding(network, rank=rank, tensor_parallel=2, port=port + rank)
            )
            for rank in range(2)
        ]
        for rank in range(4):
            local = host_blocks(3, 8, 32)
            says = hello(rank=rank, tensor_parallel=4, block_bytes=32)
            links = await stack.enter_async_context(linking(network.join(local), says))
            link = await links.to(holders[0].source("r"))

            assert link.read(MOVE).poll() is TransferState.DONE
            expected = holders[rank // 2].blocks.cells((2, 3), (rank % 2 * 32, 32))
            np.testing.assert_array_equal(local.cells((0, 1)), expected)


@pytest.mark.parametrize(("there", "here"), [(1, 4), (2, 4), (2, 8), (4, 8), (4, 4)])
async def test_ranks_that_have_the_same_head_read_and_verify_the_same(
    network: MemoryNetwork, there: int, here: int
) -> None:
    """Of a model with two KV heads of 32 bytes each."""
    head_bytes = 32
    there_bytes = head_bytes * max(1, 2 // there)
    port = free_ports(there)
    async with AsyncExitStack() as stack:
        holders = [
            await stack.enter_async_context(
                holding(
                    network,
                    rank=rank,
                    tensor_parallel=there,
                    port=port + rank,
                    block_bytes=there_bytes,
                )
            )
            for rank in range(there)
        ]
        for rank in range(here):
            local = host_blocks(3, 8, head_bytes)
            says = hello(rank=rank, tensor_parallel=here, block_bytes=head_bytes)
            links = await stack.enter_async_context(linking(network.join(local), says))
            holder = holders[rank * there // here]
            holder.grant("r")
            link = await links.to(holders[0].source("r"))

            # Each half of the ranks has one head, which is the second of its holder if there are
            # two.
            offset = head_bytes * (rank * 2 // here) if there == 1 else 0
            expected = holder.blocks.cells((2, 3), (offset, head_bytes))
            assert link.read(MOVE).poll() is TransferState.DONE
            np.testing.assert_array_equal(local.cells((0, 1)), expected)
            digester = Digester(local.map)
            assert await link.digest("r", (2, 3)) == await digester.digest((0, 1))
            digester.close()


@pytest.mark.parametrize(("here", "there"), [(1, 2), (3, 2)])
async def test_fewer_or_uneven_ranks_cannot_read(
    network: MemoryNetwork, transport: MemoryTransport, here: int, there: int
) -> None:
    says = hello(tensor_parallel=here)
    async with (
        holding(network, tensor_parallel=there) as holder,
        linking(transport, says) as links,
    ):
        with pytest.raises(LinkError, match=f"parallelism of {here} is not a multiple of {there}"):
            await links.to(holder.source("r"))


async def test_closed_links_fail_what_moves_and_open_no_more(
    network: MemoryNetwork, transport: MemoryTransport
) -> None:
    async with holding(network) as holder, linking(transport) as links:
        transport.inject(Fault.HANG)
        moving = (await links.to(holder.source("r"))).read(MOVE)
        links.close()

        assert moving.poll() is TransferState.FAILED
        with pytest.raises(LinkError, match="closed"):
            await links.to(holder.source("r"))


class SlowTransport(MemoryTransport):
    """Opens pairs only when it is let."""

    may_open: threading.Event
    opened: list[MemoryPair]

    def open(self, description: bytes, remote: BlockMap) -> MemoryPair:
        self.may_open.wait()
        self.opened.append(super().open(description, remote))
        return self.opened[-1]


class PartlyMuteTransport(MemoryTransport):
    """Opens pairs with one peer only when it is let."""

    mute: bytes
    may_open: threading.Event

    def open(self, description: bytes, remote: BlockMap) -> MemoryPair:
        if description == self.mute:
            self.may_open.wait()
        return super().open(description, remote)


async def test_a_peer_that_is_mute_keeps_only_those_waiting_who_want_it(
    network: MemoryNetwork, local: HostBlocks
) -> None:
    transport = PartlyMuteTransport(network, local, checks_integrity=True)
    transport.may_open = threading.Event()
    async with holding(network, "p:1") as mute, holding(network, "q:1") as healthy:
        transport.mute = mute.transport.describe()
        async with linking(transport) as links:
            waiting = asyncio.create_task(links.to(mute.source("r")))
            await until(lambda: mute.desk.connection_count)
            try:
                async with asyncio.timeout(20.0):
                    link = await links.to(healthy.source("r"))
                is_waiting = not waiting.done()
            finally:
                transport.may_open.set()

            assert link.read(MOVE).poll() is TransferState.DONE
            assert is_waiting
            assert (await waiting).read(MOVE).poll() is TransferState.DONE


async def test_a_pair_that_opens_after_its_link_was_closed_is_closed(
    network: MemoryNetwork, local: HostBlocks
) -> None:
    transport = SlowTransport(network, local, checks_integrity=True)
    transport.may_open, transport.opened = threading.Event(), []
    async with holding(network) as holder, linking(transport) as links:
        waiting = asyncio.create_task(links.to(holder.source("r")))
        await until(lambda: holder.desk.connection_count)
        await until(lambda: threading.active_count() > 1)
        links.close()
        with pytest.raises(LinkError, match="closed"):
            await waiting
        transport.may_open.set()
        await until(lambda: transport.opened)
        await until(lambda: transport.opened[0]._closed_for)

    assert transport.opened[0]._closed_for == "nobody waits for it any more"


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
