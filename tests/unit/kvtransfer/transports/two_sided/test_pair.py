"""What waits for a pair's line, and a line that cannot be made."""

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest
from tests.unit.kvtransfer.transports.two_sided.fake_lines import (
    BOUND_SECONDS,
    FakeLine,
    ends_with,
)

from twofold_kvtransfer.blocks import Move
from twofold_kvtransfer.communicators.gloo import GlooLibrary
from twofold_kvtransfer.transports.port import PeerError
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.transports.testing import host_blocks
from twofold_kvtransfer.transports.two_sided.pair import TwoSidedPair

BLOCKS = host_blocks(1, 4, 8).map
MOVE = Move((0,), (1,))


def pair_over(make_line: Callable[[socket.socket], FakeLine]) -> TwoSidedPair:
    library, maps = GlooLibrary("127.0.0.1"), (BLOCKS, BLOCKS)
    return TwoSidedPair(ends_with(make_line), library, maps, (0, 8), lambda: 0.0, lambda _: None)


@contextlib.contextmanager
def busy_pair() -> Iterator[TwoSidedPair]:
    """Give one whose line is taken up by a first transfer."""
    lines: list[FakeLine] = []

    def make_line(sock: socket.socket) -> FakeLine:
        lines.append(FakeLine(sock))
        return lines[-1]

    pair = pair_over(make_line)
    pair.read(MOVE)
    assert lines[0].is_asked.wait(BOUND_SECONDS)
    yield pair
    pair.close("the end")


def test_cancelled_transfers_do_not_wait_for_a_peer_that_stands_still() -> None:
    with busy_pair() as pair:
        transfers = [pair.read(MOVE) for _ in range(3)]
        waiting = list(pair._queue._waiting)
        for transfer in (transfers[0], transfers[2]):
            transfer.cancel()

        assert list(pair._queue._waiting) == [waiting[1]]


def test_a_pair_that_cannot_be_opened_closes_its_line() -> None:
    lines: list[FakeLine] = []

    def make_line(sock: socket.socket) -> FakeLine:
        lines.append(FakeLine(sock))
        lines[0].join_error = TransferError(Failure.PROTOCOL, "no memory")
        return lines[0]

    with pytest.raises(PeerError, match="no memory"):
        pair_over(make_line)

    assert lines[0].is_closed
