import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import pytest
from tests.unit.kvtransfer.fakes import FakeDigester, FakeTransfer

from twofold_kvtransfer.blocks import BlockIds, Move
from twofold_kvtransfer.digesting import Digester
from twofold_kvtransfer.keeping import Keeper
from twofold_kvtransfer.links import Link, LinkError, Links
from twofold_kvtransfer.receiving import Failure, Receiver, Reception
from twofold_kvtransfer.sources import Source
from twofold_kvtransfer.transports import TransferState, tcp

SOURCE = Source("p:1", "r", "host", 5600, 1, (4, 5, 6))


class FakePeer:
    """The links, the one link, and the keeper of its leases."""

    def __init__(self) -> None:
        self.transfer = FakeTransfer()
        self.moves: list[Move] = []
        self.noted: list[TransferState] = []
        self.closed_for: str | None = None
        self.given_back = 0
        self.users = 0
        self.held_until = 100.0
        self.now_ = 0.0
        self.may_claim = asyncio.Event()
        self.may_claim.set()
        self.refuses_claims = False
        self.asked_digests: list[BlockIds] = []
        self.may_digest = asyncio.Event()
        self.may_digest.set()
        self.refuses_digests = False
        self.may_open = asyncio.Event()
        self.may_open.set()

    async def to(self, source: Source) -> Link:
        await self.may_open.wait()
        return cast("Link", self)

    def read(self, move: Move) -> FakeTransfer:
        self.moves.append(move)
        return self.transfer

    async def digest(self, request_id: str, blocks: BlockIds) -> list[int]:
        self.asked_digests.append(blocks)
        await self.may_digest.wait()
        if self.refuses_digests:
            raise LinkError("it makes none")
        return [7]

    def note(self, transfer: FakeTransfer) -> None:
        self.noted.append(transfer.poll())

    def close(self, reason: str) -> None:
        self.closed_for = reason

    def want(self, source: Source) -> None:
        self.users += 1

    def leave(self, source: Source) -> bool:
        self.users -= 1
        return not self.users

    async def claim(self, sources: list[Source]) -> None:
        await self.may_claim.wait()
        if self.refuses_claims:
            raise LinkError("gone")

    async def give_back(self, source: Source) -> None:
        self.given_back += 1

    def now(self) -> float:
        return self.now_

    def held(self, source: Source, until: float) -> bool:
        return until < self.held_until


class Rig:
    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        limit_seconds: float,
        verifies: bool,
        seconds_per_byte: float = 0.0,
    ) -> None:
        self.peer = FakePeer()
        self.digester = FakeDigester(7)
        self.receptions: list[Reception] = []
        self.receiver = Receiver(
            cast("Links", self.peer),
            cast("Keeper", self.peer),
            tasks,
            limit_seconds=lambda size_bytes: limit_seconds + size_bytes * seconds_per_byte,
            received=self.receptions.append,
            digester=cast("Digester", self.digester) if verifies else None,
            letting_go_seconds=0.0,
        )

    async def fetch(self) -> None:
        self.receiver.await_turn(SOURCE)
        self.receiver.fetch("mine", SOURCE, (1, 2))
        await turns()


@asynccontextmanager
async def rigged(
    limit_seconds: float = 1000.0, *, verifies: bool = False, seconds_per_byte: float = 0.0
) -> AsyncIterator[Rig]:
    async with asyncio.TaskGroup() as tasks:
        yield Rig(tasks, limit_seconds, verifies, seconds_per_byte)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_last_blocks_are_fetched_and_the_lease_is_given_back() -> None:
    async with rigged() as rig:
        await rig.fetch()
        assert rig.receptions == []
        rig.peer.transfer.state = TransferState.DONE

    assert rig.peer.moves == [Move((1, 2), (5, 6))]
    assert rig.peer.noted == [TransferState.DONE]
    assert rig.receptions == [Reception("mine", None, 100, 0.0)]
    assert (rig.peer.users, rig.peer.given_back) == (0, 1)


async def test_a_failed_fetch_leaves_the_lease_to_expire() -> None:
    async with rigged() as rig:
        await rig.fetch()
        rig.peer.transfer.fail("peer-lost: a checksum is not the matter")

    assert rig.peer.noted == [TransferState.FAILED]
    assert rig.receptions == [Reception("mine", Failure.TRANSFER)]
    assert (rig.peer.users, rig.peer.given_back) == (0, 0)


@pytest.mark.parametrize("reason", [f"{tcp.Failure.CHECKSUM}: of a run", "checksum"])
async def test_damage_that_the_transport_finds_is_told_from_a_loss(reason: str) -> None:
    async with rigged() as rig:
        await rig.fetch()
        rig.peer.transfer.fail(reason)

    assert rig.receptions == [Reception("mine", Failure.INTEGRITY)]
    assert (rig.peer.users, rig.peer.given_back) == (0, 0)


async def test_a_transport_that_is_trusted_is_not_asked_for_proof() -> None:
    async with rigged() as rig:
        await rig.fetch()
        rig.peer.transfer.state = TransferState.DONE

    assert rig.peer.asked_digests == rig.digester.asked == []


async def test_the_proof_is_asked_for_while_blocks_move_and_is_of_what_arrived() -> None:
    async with rigged(verifies=True) as rig:
        await rig.fetch()
        assert rig.peer.asked_digests == [(5, 6)]
        assert rig.digester.asked == []
        rig.peer.transfer.state = TransferState.DONE

    assert rig.digester.asked == [(1, 2)]
    assert rig.receptions == [Reception("mine", None, 100, 0.0)]
    assert (rig.peer.users, rig.peer.given_back) == (0, 1)


async def test_blocks_wait_for_their_proof() -> None:
    async with rigged(verifies=True) as rig:
        rig.peer.may_digest.clear()
        await rig.fetch()
        rig.peer.transfer.state = TransferState.DONE
        while not rig.digester.asked:
            await asyncio.sleep(0.001)
        await turns()
        assert rig.receptions == []
        rig.peer.may_digest.set()

    assert rig.receptions == [Reception("mine", None, 100, 0.0)]


async def test_damaged_blocks_are_not_used_and_their_lease_is_left_to_expire(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with rigged(verifies=True) as rig:
        rig.digester.found = [8]
        await rig.fetch()
        rig.peer.transfer.state = TransferState.DONE

    assert rig.receptions == [Reception("mine", Failure.INTEGRITY)]
    assert (rig.peer.users, rig.peer.given_back) == (0, 0)
    assert "not as they were sent: blocks [1, 2]" in caplog.text


async def test_what_the_holder_digested_after_the_lease_is_no_sign_of_damage() -> None:
    async with rigged(verifies=True) as rig:
        rig.digester.found = [8]
        rig.peer.may_digest.clear()
        await rig.fetch()
        rig.peer.transfer.state = TransferState.DONE
        while not rig.digester.asked:
            await asyncio.sleep(0.001)
        rig.peer.now_ = 100.0
        rig.peer.may_digest.set()

    assert rig.receptions == [Reception("mine", Failure.LEASE)]


async def test_a_proof_that_comes_after_the_lease_is_still_one() -> None:
    async with rigged(verifies=True) as rig:
        rig.peer.may_digest.clear()
        await rig.fetch()
        rig.peer.transfer.state = TransferState.DONE
        while not rig.digester.asked:
            await asyncio.sleep(0.001)
        rig.peer.now_ = 100.0
        rig.peer.may_digest.set()

    assert rig.receptions == [Reception("mine", None, 100, 0.0)]


async def test_blocks_that_the_holder_does_not_vouch_for_are_not_used() -> None:
    async with rigged(verifies=True) as rig:
        rig.peer.refuses_digests = True
        await rig.fetch()
        rig.peer.transfer.state = TransferState.DONE

    assert rig.receptions == [Reception("mine", Failure.LINK)]
    assert (rig.peer.users, rig.peer.given_back) == (0, 0)


async def test_a_proof_that_does_not_come_in_time_is_waited_for_no_more() -> None:
    async with rigged(limit_seconds=0.0, verifies=True) as rig:
        rig.peer.may_digest.clear()
        rig.peer.transfer.state = TransferState.DONE
        await rig.fetch()

    assert rig.receptions == [Reception("mine", Failure.LATE)]
    assert not rig.peer.transfer.was_cancelled
    assert (rig.peer.users, rig.peer.given_back) == (0, 0)


async def test_a_fetch_that_failed_waits_for_no_proof() -> None:
    async with rigged(verifies=True) as rig:
        rig.peer.may_digest.clear()
        await rig.fetch()
        rig.peer.transfer.fail("peer-lost")

    assert rig.receptions == [Reception("mine", Failure.TRANSFER)]


@pytest.mark.parametrize(("arrived_at", "failure"), [(99.9, None), (100.0, Failure.LEASE)])
async def test_blocks_count_if_their_lease_was_held_when_they_arrived(
    arrived_at: float, failure: Failure | None
) -> None:
    async with rigged() as rig:
        await rig.fetch()
        rig.peer.now_ = arrived_at
        rig.peer.transfer.state = TransferState.DONE

    assert [reception.failure for reception in rig.receptions] == [failure]


async def test_blocks_wait_for_the_word_that_they_were_held_and_not_for_more() -> None:
    async with rigged() as rig:
        rig.peer.may_claim.clear()
        await rig.fetch()
        rig.peer.transfer.state = TransferState.DONE
        while rig.receptions == [] and rig.peer.now_ < 10.0:
            rig.peer.now_ += 1.0
            await asyncio.sleep(0.001)
        assert rig.receptions == []
        rig.peer.now_ = 1000.0  # the answer is late, the blocks were not
        rig.peer.may_claim.set()

    assert rig.receptions == [Reception("mine", None, 100, 0.0)]


async def test_a_lease_held_by_an_earlier_claim_needs_no_other() -> None:
    async with rigged() as rig:
        rig.peer.refuses_claims = True
        await rig.fetch()
        rig.peer.transfer.state = TransferState.DONE

    assert rig.receptions == [Reception("mine", None, 100, 0.0)]


async def test_what_takes_too_long_is_cancelled() -> None:
    async with rigged(limit_seconds=0.0) as rig:
        await rig.fetch()

    assert rig.peer.transfer.was_cancelled
    assert rig.peer.closed_for is None
    assert rig.receptions == [Reception("mine", Failure.LATE)]


async def test_a_link_that_does_not_open_in_time_is_waited_for_no_more() -> None:
    async with rigged(limit_seconds=0.0) as rig:
        rig.peer.may_open.clear()
        await rig.fetch()

    assert rig.receptions == [Reception("mine", Failure.LINK)]
    assert rig.peer.moves == []


async def test_many_bytes_have_longer() -> None:
    async with rigged(limit_seconds=0.0, seconds_per_byte=10.0) as rig:
        await rig.fetch()
        assert not rig.peer.transfer.was_cancelled
        rig.peer.transfer.state = TransferState.DONE

    assert [one.failure for one in rig.receptions] == [None]


async def test_what_does_not_end_when_cancelled_closes_its_link_and_is_waited_for() -> None:
    async with rigged(limit_seconds=0.0) as rig:
        rig.peer.transfer.heeds_cancel = False
        await rig.fetch()
        while rig.peer.closed_for is None:
            await asyncio.sleep(0)
        await turns()
        assert rig.receptions == []
        rig.peer.transfer.fail("closed")

    assert rig.receptions == [Reception("mine", Failure.LATE)]


async def test_fewer_blocks_there_than_are_wanted_are_not_fetched() -> None:
    async with rigged() as rig:
        rig.receiver.await_turn(SOURCE)
        rig.receiver.fetch("mine", SOURCE, (1, 2, 3, 4))

    assert rig.peer.moves == []
    assert rig.receptions == [Reception("mine", Failure.SOURCE)]


async def test_no_blocks_are_fetched_from_the_end_of_the_source() -> None:
    async with rigged() as rig:
        rig.peer.transfer.state = TransferState.DONE
        rig.receiver.await_turn(SOURCE)
        rig.receiver.fetch("mine", SOURCE, ())

    assert rig.peer.moves == [Move((), ())]


async def test_an_abandoned_lease_is_given_back() -> None:
    async with rigged() as rig:
        rig.receiver.await_turn(SOURCE)
        rig.receiver.abandon(SOURCE)

    assert (rig.peer.users, rig.peer.given_back) == (0, 1)
    assert rig.receptions == []


async def test_a_lease_that_another_request_needs_is_not_given_back() -> None:
    async with rigged() as rig:
        rig.receiver.await_turn(SOURCE)
        await rig.fetch()
        rig.peer.transfer.state = TransferState.DONE

    assert (rig.peer.users, rig.peer.given_back) == (1, 0)
