"""What waits for a pair's threads, and what of it they never see."""

import threading

import pytest

from twofold_kvtransfer.transports import TransferState
from twofold_kvtransfer.transports.sockets.transfer import PolledTransfer
from twofold_kvtransfer.transports.sockets.waiting import Queue, Share
from twofold_kvtransfer.transports.sockets.wire import Direction, Request

REQUEST = Request(Direction.READ, False, 1, 1, part_offset=0, part_bytes=8, first=0, count=1)
BOUND_SECONDS = 30.0


class Moved(PolledTransfer):
    """Has one number of shares in *queue*, and ends the moment it fails."""

    def __init__(self, queue: Queue["Moved"], share_count: int = 1) -> None:
        super().__init__(8, lambda: 0.0)
        self._queue = queue
        queue.put(self, [Share(self, REQUEST, (n,), (n,)) for n in range(share_count)])

    def _stop(self) -> None:
        self._ended_at = self._clock()
        self._queue.drop(self)


def taken(queue: Queue[Moved]) -> tuple[Moved, int]:
    share = queue.take()
    assert share is not None
    return share.transfer, share.local[0]


def test_shares_are_taken_in_the_order_in_which_they_came() -> None:
    queue = Queue[Moved](2)
    first, second = Moved(queue, 2), Moved(queue)

    assert [taken(queue) for _ in range(3)] == [(first, 0), (first, 1), (second, 0)]


def test_of_a_transfer_that_has_ended_no_share_is_taken_any_more() -> None:
    queue = Queue[Moved](2)
    first, second = Moved(queue, 3), Moved(queue)
    assert taken(queue) == (first, 0)
    first.cancel()

    assert taken(queue) == (second, 0)


def test_a_transfer_counts_until_it_ends_and_not_until_it_is_taken() -> None:
    queue = Queue[Moved](1)
    first = Moved(queue)
    taken(queue)
    too_many = Moved(queue)
    queue.drop(first)

    assert too_many.poll() is TransferState.FAILED
    assert too_many.reason == "busy: 1 transfers are moving"
    assert Moved(queue).poll() is TransferState.MOVING


def test_a_close_fails_what_was_put_before_and_later() -> None:
    queue = Queue[Moved](3)
    transfers = [Moved(queue), Moved(queue)]
    taken(queue)
    assert queue.close("the end")
    transfers.append(Moved(queue))

    assert [transfer.reason for transfer in transfers] == ["the end"] * 3
    assert queue.take() is None
    assert not queue.close("again")


@pytest.mark.parametrize("takers", [1, 3])
def test_a_close_wakes_all_who_wait(takers: int) -> None:
    queue = Queue[Moved](1)
    threads = [threading.Thread(target=queue.take, daemon=True) for _ in range(takers)]
    for thread in threads:
        thread.start()
    queue.close("the end")
    for thread in threads:
        thread.join(BOUND_SECONDS)

    assert not any(thread.is_alive() for thread in threads)
