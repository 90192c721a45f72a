import pytest

from twofold_kvtransfer.transports import TransferState
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.transports.tcp.transfer import TcpTransfer


class Made:
    """A transfer of two shares, with what it does to others."""

    def __init__(self, share_count: int = 2) -> None:
        self.now = 10.0
        self.endings: list[Failure | None] = []
        self.seconds: list[float] = []
        self.cuts: list[str] = []
        self.transfer = TcpTransfer(100, share_count, lambda: self.now, self._note)

    def _note(self, _: TcpTransfer, failure: Failure | None, seconds: float) -> None:
        self.endings.append(failure)
        self.seconds.append(seconds)

    def cut_first(self) -> None:
        self.cuts.append("first")

    def cut_second(self) -> None:
        self.cuts.append("second")


LOST = TransferError(Failure.PEER_LOST, "gone")


def test_it_is_done_when_all_shares_are() -> None:
    made = Made()
    assert made.transfer.begin(made.cut_first)
    made.transfer.end(made.cut_first, None)
    assert made.transfer.poll() is TransferState.MOVING
    assert made.transfer.begin(made.cut_first)
    made.now = 12.5
    made.transfer.end(made.cut_first, None)
    made.now = 99.0

    assert made.transfer.poll() is TransferState.DONE
    assert made.transfer.reason is None
    assert made.transfer.seconds == 2.5
    assert made.endings == [None]
    assert made.cuts == []


def test_what_is_told_at_its_end_is_how_long_it_took_since_a_stream_had_it() -> None:
    made = Made()
    made.now = 15.0
    made.transfer.begin(made.cut_first)
    made.now = 16.0
    made.transfer.begin(made.cut_second)
    made.now = 18.0
    made.transfer.end(made.cut_first, None)
    made.transfer.end(made.cut_second, None)

    assert made.seconds == [3.0]
    assert made.transfer.seconds == 8.0


def test_without_shares_it_is_done_at_once() -> None:
    made = Made(share_count=0)

    assert made.transfer.poll() is TransferState.DONE
    assert made.endings == [None]


def test_it_moves_until_no_stream_can_write_any_more() -> None:
    made = Made()
    made.transfer.begin(made.cut_first)
    made.transfer.begin(made.cut_second)
    made.transfer.cancel()

    states = [made.transfer.poll()]
    early_reason = made.transfer.reason
    made.transfer.end(made.cut_first, LOST)
    states.append(made.transfer.poll())
    made.transfer.end(made.cut_second, None)
    states.append(made.transfer.poll())

    assert sorted(made.cuts) == ["first", "second"]
    assert states == [TransferState.MOVING, TransferState.MOVING, TransferState.FAILED]
    assert early_reason is None
    assert made.transfer.reason == "cancelled"
    assert made.endings == [Failure.CANCELLED]


def test_a_share_that_fails_cuts_the_others_and_its_reason_stays() -> None:
    made = Made()
    made.transfer.begin(made.cut_first)
    made.transfer.begin(made.cut_second)
    made.transfer.end(made.cut_first, LOST)
    made.transfer.cancel()
    made.transfer.end(made.cut_second, TransferError(Failure.TIMEOUT, "cut"))

    assert made.cuts == ["second"]
    assert made.transfer.reason == "peer-lost: gone"
    assert made.endings == [Failure.PEER_LOST]


def test_no_share_of_a_failed_transfer_begins() -> None:
    made = Made()
    made.transfer.cancel()

    assert made.transfer.poll() is TransferState.FAILED
    assert not made.transfer.begin(made.cut_first)


@pytest.mark.parametrize("share_count", [0, 1])
def test_what_has_ended_stays_so(share_count: int) -> None:
    made = Made(share_count)
    if share_count:
        made.transfer.begin(made.cut_first)
        made.transfer.end(made.cut_first, None)
    made.transfer.cancel()
    made.transfer.fail(Failure.CLOSED, "late")

    assert made.transfer.poll() is TransferState.DONE
    assert made.endings == [None]
