"""Fetching over real sockets: what becomes of requests, of their leases and of their blocks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from tests.integration.kvtransfer.holders import (
    LOCALHOST,
    LONG,
    PatientDigester,
    drop_connections,
    hello,
    holding,
    listening,
    until,
)

from twofold_kvtransfer.digesting import Digester
from twofold_kvtransfer.keeping import Keeper
from twofold_kvtransfer.lease import Cause
from twofold_kvtransfer.leases import Ended
from twofold_kvtransfer.links import Links
from twofold_kvtransfer.receiving import Failure, Receiver, Reception
from twofold_kvtransfer.side_channel import Hello, Patience
from twofold_kvtransfer.sources import Source
from twofold_kvtransfer.transports.testing import (
    Fault,
    HostBlocks,
    MemoryNetwork,
    MemoryTransport,
    host_blocks,
)

LOCAL = (6, 7)


@dataclass
class Reading:
    """One rank that fetches blocks, without a thread."""

    blocks: HostBlocks
    transport: MemoryTransport
    links: Links
    keeper: Keeper
    receiver: Receiver
    receptions: list[Reception] = field(default_factory=list)

    def fetch(self, source: Source, name: str = "mine") -> None:
        self.receiver.await_turn(source)
        self.receiver.fetch(name, source, LOCAL)

    async def fetched(self, source: Source) -> Failure | None:
        """Fetch, and say how it ended."""
        name = f"mine{len(self.receptions)}"
        self.fetch(source, name)
        await until(lambda: any(one.request_id == name for one in self.receptions))
        return next(one.failure for one in self.receptions if one.request_id == name)


@asynccontextmanager
async def reading(
    network: MemoryNetwork,
    *,
    limit_seconds: float = LONG,
    interval: float = LONG,
    patience: Patience | None = None,
    says: Hello | None = None,
    block_bytes: int = 64,
    verifies: bool = False,
) -> AsyncIterator[Reading]:
    """With *verifies* over a transport that does not check what arrives."""
    blocks = host_blocks(3, 8, block_bytes)
    transport = network.join(blocks, checks_integrity=not verifies)
    digester = Digester(blocks.map) if verifies else None
    async with asyncio.TaskGroup() as tasks:
        says = says or hello()
        links = Links(transport, says, tasks, patience=patience or Patience(LONG, LONG))
        keeper = Keeper(links, tasks, interval=interval)
        receiver = Receiver(
            links,
            keeper,
            tasks,
            limit_seconds=lambda _: limit_seconds,
            received=lambda reception: here.receptions.append(reception),
            digester=digester,
        )
        here = Reading(blocks, transport, links, keeper, receiver)
        renewing = tasks.create_task(keeper.run())
        try:
            yield here
        finally:
            renewing.cancel()
            links.close()
    transport.close()
    if digester is not None:
        digester.close()


@pytest.fixture
def network() -> MemoryNetwork:
    return MemoryNetwork()


async def test_fetched_blocks_are_here_and_their_lease_is_given_back(
    network: MemoryNetwork,
) -> None:
    async with holding(network) as holder, reading(network) as here:
        assert await here.fetched(holder.grant("r", (0, 1, 2))) is None

        assert here.receptions[0].size_bytes == 2 * 3 * 64
        np.testing.assert_array_equal(here.blocks.cells(LOCAL), holder.blocks.cells((1, 2)))
        await until(lambda: holder.ended)
        assert holder.ended == [Ended("r", Cause.READ)]
        assert len(here.keeper) == 0


async def test_hundreds_of_requests_end_once_each(network: MemoryNetwork) -> None:
    async with holding(network) as holder, reading(network) as here:
        here.transport.polls_until_done = 3
        for number in range(300):
            here.fetch(holder.grant(f"r{number}"), f"mine{number}")
        await until(lambda: len(holder.ended) == 300)

    assert sorted(r.request_id for r in here.receptions) == sorted(f"mine{n}" for n in range(300))
    assert {r.failure for r in here.receptions} == {None}


@pytest.mark.parametrize(
    ("fault", "failure"),
    [
        (Fault.FAIL, Failure.TRANSFER),
        (Fault.FLIP, Failure.INTEGRITY),
        (Fault.LOSE, Failure.TRANSFER),
    ],
)
async def test_a_transfer_that_fails_leaves_its_lease_to_others(
    network: MemoryNetwork, fault: Fault, failure: Failure
) -> None:
    async with holding(network) as holder, reading(network, interval=0.001) as here:
        here.transport.inject(fault)

        assert await here.fetched(holder.grant("r")) is failure
        assert not here.blocks.memory.any()
        assert len(here.keeper) == 0
        assert holder.ended == []


async def test_blocks_that_arrive_as_they_were_sent_are_used(network: MemoryNetwork) -> None:
    async with holding(network) as holder, reading(network, verifies=True) as here:
        assert await here.fetched(holder.grant("r", (0, 1, 2))) is None

        np.testing.assert_array_equal(here.blocks.cells(LOCAL), holder.blocks.cells((1, 2)))
        await until(lambda: holder.ended)
        assert holder.ended == [Ended("r", Cause.READ)]


async def test_a_bit_that_flips_on_the_way_is_found_and_the_lease_is_left_to_others(
    network: MemoryNetwork,
) -> None:
    async with (
        holding(network) as holder,
        reading(network, interval=0.001, verifies=True) as here,
    ):
        here.transport.inject(Fault.FLIP)
        source = holder.grant("r")

        assert await here.fetched(source) is Failure.INTEGRITY
        assert len(here.keeper) == 0
        assert holder.ended == []
        assert await here.fetched(source) is None


async def test_a_bit_that_flips_after_the_holder_has_digested_it_is_found(
    network: MemoryNetwork,
) -> None:
    async with (
        holding(network, digester=PatientDigester) as holder,
        reading(network, verifies=True) as here,
    ):
        assert isinstance(holder.digester, PatientDigester)
        here.transport.polls_until_done = 1_000_000
        here.fetch(holder.grant("r"))
        await holder.digester.made.wait()
        holder.blocks.memory[1, 0, 5] ^= 4
        here.transport._pairs[0]._transfers[0]._polls_left = 1
        holder.digester.may_answer.set()
        await until(lambda: here.receptions)

        assert here.receptions == [Reception("mine", Failure.INTEGRITY)]
        assert holder.ended == []


@pytest.mark.parametrize("rank", [0, 1])
async def test_a_rank_with_a_part_of_each_block_verifies_its_part(
    network: MemoryNetwork, rank: int
) -> None:
    says = hello(rank=rank, tensor_parallel=2, block_bytes=32)
    async with (
        holding(network) as holder,
        reading(network, says=says, block_bytes=32, verifies=True) as here,
    ):
        assert await here.fetched(holder.grant("r")) is None
        here.transport.inject(Fault.FLIP)
        assert await here.fetched(holder.grant("s")) is Failure.INTEGRITY

        holder.blocks.memory[:, :, : 32 * rank] ^= 0xFF
        holder.blocks.memory[:, :, 32 * (rank + 1) :] ^= 0xFF
        assert await here.fetched(holder.grant("t")) is None


async def test_a_holder_that_does_not_say_what_it_holds_is_not_trusted(
    network: MemoryNetwork,
) -> None:
    async with (
        holding(network, digester=None) as holder,
        reading(network, verifies=True) as here,
    ):
        assert await here.fetched(holder.grant("r")) is Failure.LINK
        assert holder.ended == []


async def test_a_holder_that_says_too_late_what_it_holds_is_not_waited_for(
    network: MemoryNetwork,
) -> None:
    async with (
        holding(network, digester=PatientDigester) as holder,
        reading(network, limit_seconds=0.05, verifies=True) as here,
    ):
        assert await here.fetched(holder.grant("r")) is Failure.LATE
        assert holder.ended == []


async def test_blocks_without_a_lease_are_refused_before_they_are_compared(
    network: MemoryNetwork,
) -> None:
    async with holding(network) as holder, reading(network, verifies=True) as here:
        assert await here.fetched(holder.source("never granted")) is Failure.LEASE


async def test_what_was_not_fetched_in_time_is_not_written_afterwards(
    network: MemoryNetwork,
) -> None:
    async with holding(network) as holder, reading(network, limit_seconds=0.01) as here:
        here.transport.inject(Fault.HANG)

        assert await here.fetched(holder.grant("r")) is Failure.LATE
        assert not here.blocks.memory.any()
        assert await here.fetched(holder.grant("s")) is None


async def test_blocks_without_a_lease_are_refused(network: MemoryNetwork) -> None:
    async with holding(network) as holder, reading(network) as here:
        assert await here.fetched(holder.source("never granted")) is Failure.LEASE


async def test_blocks_whose_lease_has_run_out_are_refused(network: MemoryNetwork) -> None:
    async with holding(network) as holder, reading(network) as here:
        source = holder.grant("r")
        holder.clock.now += LONG

        assert await here.fetched(source) is Failure.LEASE


async def test_blocks_that_arrive_after_their_lease_are_refused(network: MemoryNetwork) -> None:
    async with holding(network, lease_seconds=0.05) as holder, reading(network) as here:
        here.transport.polls_until_done = 200  # at least 0.5 ms each

        assert await here.fetched(holder.grant("r")) is Failure.LEASE


@pytest.mark.parametrize(
    "blocks", [pytest.param((0, 8), id="not there"), pytest.param((0, 10**30), id="beyond all")]
)
async def test_blocks_that_the_peer_does_not_have_are_refused(
    network: MemoryNetwork, blocks: tuple[int, ...]
) -> None:
    async with holding(network) as holder, reading(network) as here:
        assert await here.fetched(holder.grant("r", blocks)) is Failure.LINK


async def test_a_source_with_too_few_blocks_is_refused(network: MemoryNetwork) -> None:
    async with holding(network) as holder, reading(network) as here:
        assert await here.fetched(holder.grant("r", (1,))) is Failure.SOURCE


@pytest.mark.parametrize("host", [LOCALHOST, "no\0host", "n" * 100])
async def test_a_peer_that_cannot_be_reached_fails_its_requests(
    network: MemoryNetwork, host: str
) -> None:
    async with reading(network) as here:
        assert await here.fetched(Source("p:1", "r", host, 1, 1, (0, 1))) is Failure.LINK


async def test_a_peer_that_dies_fails_what_moves(network: MemoryNetwork) -> None:
    async with reading(network) as here:
        async with holding(network) as holder:
            for name in ("a", "b"):
                here.transport.inject(Fault.HANG)
                here.fetch(holder.grant(name), name)
            await until(lambda: len(here.transport._pairs) == 1)
        await until(lambda: len(here.receptions) == 2)

    failed = sorted(here.receptions, key=lambda reception: reception.request_id)
    assert failed == [Reception(name, Failure.TRANSFER) for name in ("a", "b")]
    assert not here.blocks.memory.any()


async def test_a_new_incarnation_fails_what_moves_from_the_old(
    network: MemoryNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        holding(network, "p:1") as old,
        holding(network, "p:2") as new,
        reading(network) as here,
    ):
        here.transport.inject(Fault.HANG)
        here.fetch(old.grant("r"), "old")
        await until(lambda: here.transport._pairs and here.transport._pairs[0]._transfers)

        assert await here.fetched(new.grant("r")) is None
        assert Reception("old", Failure.TRANSFER) in here.receptions
        assert await here.fetched(old.source("r")) is Failure.LINK
        assert len(here.receptions) == 3
    assert "p:1 was followed by p:2" in caplog.text


async def test_requests_that_wait_for_an_old_incarnation_fail_when_the_new_comes(
    network: MemoryNetwork,
) -> None:
    async with (
        listening(_say_nothing) as port,
        holding(network, "p:2") as new,
        reading(network) as here,
    ):
        for number in range(5):
            here.fetch(Source("p:1", "r", LOCALHOST, port, 1, (0, 1)), f"old{number}")
        await until(lambda: here.links._lines)
        assert await here.fetched(new.grant("r")) is None
        await until(lambda: len(here.receptions) == 6)

        failures = [r.failure for r in here.receptions if r.request_id.startswith("old")]
        assert failures == [Failure.LINK] * 5


async def test_the_lease_of_a_request_that_waits_is_kept_over_many_of_its_times(
    network: MemoryNetwork,
) -> None:
    async with holding(network) as holder, reading(network, interval=0.001) as here:
        source = holder.grant("r")
        here.receiver.await_turn(source)
        for _ in range(5):
            claims = holder.clock.looks
            await until(lambda seen=claims: holder.clock.looks > seen + 1)  # type: ignore[misc]
            holder.clock.now += 0.9 * LONG
            holder.collect()

        assert holder.ended == []
        here.receiver.fetch("mine", source, LOCAL)
        await until(lambda: holder.ended)
        assert here.receptions[0].failure is None
        assert holder.ended == [Ended("r", Cause.READ)]


async def test_a_lost_connection_costs_a_request_that_waits_nothing(
    network: MemoryNetwork,
) -> None:
    async with holding(network) as holder, reading(network, interval=0.001) as here:
        source = holder.grant("r")
        here.receiver.await_turn(source)
        for _ in range(3):
            claims = holder.clock.looks
            await until(lambda seen=claims: holder.clock.looks > seen + 1)  # type: ignore[misc]
            drop_connections(holder)
            holder.clock.now += 0.9 * LONG
            holder.collect()

        assert holder.ended == []


async def test_a_request_that_nobody_wants_any_more_gives_its_lease_back(
    network: MemoryNetwork,
) -> None:
    async with holding(network) as holder, reading(network) as here:
        source = holder.grant("r")
        here.receiver.await_turn(source)
        here.receiver.abandon(source)
        await until(lambda: holder.ended)

        assert holder.ended == [Ended("r", Cause.READ)]
        assert here.receptions == []


async def test_requests_that_share_a_lease_give_it_back_together(network: MemoryNetwork) -> None:
    async with holding(network) as holder, reading(network) as here:
        source = holder.grant("r")
        here.receiver.await_turn(source)

        assert await here.fetched(source) is None
        assert holder.ended == []
        here.receiver.fetch("second", source, LOCAL)
        await until(lambda: len(here.receptions) == 2)
        assert here.receptions[1].failure is None
        await until(lambda: holder.ended)


async def test_to_close_while_all_moves_ends_every_request_once(network: MemoryNetwork) -> None:
    async with (
        listening(_say_nothing) as port,
        holding(network) as holder,
    ):
        async with reading(network, interval=0.001) as here:
            for number in range(20):
                here.transport.inject(Fault.HANG)
                here.fetch(holder.grant(f"r{number}"), f"moves{number}")
            silent = Source("q:1", "r", LOCALHOST, port, 1, (0, 1))
            for number in range(20):
                here.fetch(replace(silent, request_id=f"r{number}"), f"waits{number}")
            here.receiver.await_turn(silent)
            await until(lambda: here.transport._pairs)

        assert len({r.request_id for r in here.receptions}) == len(here.receptions) == 40
        assert None not in {r.failure for r in here.receptions}
        assert len(here.keeper) == 1
        await until(lambda: holder.desk.connection_count == 0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def _say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
