"""A move over a line: it ends when told to, but not while its blocks are held."""

import pytest
from tests.unit.kvtransfer.transports.clocks import Clock

from twofold_kvtransfer.transports import TransferState
from twofold_kvtransfer.transports.tcp import Failure
from twofold_kvtransfer.transports.two_sided.transfer import TwoSidedTransfer


@pytest.fixture
def ended() -> list[TwoSidedTransfer]:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock(10.0)


@pytest.fixture
def transfer(ended: list[TwoSidedTransfer], clock: Clock) -> TwoSidedTransfer:
    return TwoSidedTransfer(100, clock, ended.append)


def test_it_moves_until_it_is_finished(
    transfer: TwoSidedTransfer, ended: list[TwoSidedTransfer]
) -> None:
    assert transfer.poll() is TransferState.MOVING
    transfer.finish()

    assert transfer.poll() is TransferState.DONE
    assert transfer.reason is None
    assert ended == [transfer]


def test_a_cancelled_one_fails_at_once(
    transfer: TwoSidedTransfer, ended: list[TwoSidedTransfer]
) -> None:
    transfer.cancel()

    assert transfer.poll() is TransferState.FAILED
    assert transfer.reason == "cancelled"
    assert not transfer.is_wanted
    assert ended == [transfer]


def test_one_whose_blocks_are_held_fails_when_they_are_let_go(
    transfer: TwoSidedTransfer,
) -> None:
    assert transfer.hold()
    transfer.cancel()
    assert transfer.poll() is TransferState.MOVING
    assert transfer.reason is None
    transfer.let_go()

    assert transfer.poll() is TransferState.FAILED
    assert transfer.reason == "cancelled"


def test_blocks_of_a_failed_one_cannot_be_held(transfer: TwoSidedTransfer) -> None:
    transfer.cancel()

    assert not transfer.hold()


def test_one_that_is_let_go_goes_on(transfer: TwoSidedTransfer) -> None:
    assert transfer.hold()
    transfer.let_go()

    assert transfer.poll() is TransferState.MOVING
    assert transfer.hold()


@pytest.mark.parametrize("first", ["finish", "cancel"])
def test_it_ends_once(
    transfer: TwoSidedTransfer, ended: list[TwoSidedTransfer], first: str
) -> None:
    getattr(transfer, first)()
    state, reason = transfer.poll(), transfer.reason
    transfer.fail(Failure.PEER_LOST, "later")
    transfer.cancel()
    transfer.finish()

    assert (transfer.poll(), transfer.reason) == (state, reason)
    assert len(ended) == 1


def test_its_seconds_stop_with_it(transfer: TwoSidedTransfer, clock: Clock) -> None:
    clock.now = 12.0
    assert transfer.seconds == 2.0
    transfer.finish()
    clock.now = 20.0

    assert transfer.seconds == 2.0
