"""The order in which a pair's thread ends what has failed."""

from tests.unit.kvtransfer.transports.two_sided.fake_lines import (
    BOUND_SECONDS,
    FakeLine,
    ends_with,
)

from twofold_kvtransfer.transports import TransferState
from twofold_kvtransfer.transports.sockets.waiting import Share
from twofold_kvtransfer.transports.sockets.wire import (
    Direction,
    Request,
)
from twofold_kvtransfer.transports.two_sided.carrier import Carrier
from twofold_kvtransfer.transports.two_sided.transfer import TwoSidedTransfer

REQUEST = Request(Direction.READ, False, 1, 1, part_offset=0, part_bytes=8, first=0, count=1)


def test_a_transfer_has_failed_before_its_line_is_closed() -> None:
    lines: list[FakeLine] = []

    def make_line(sock: object) -> FakeLine:
        lines.append(FakeLine(sock))  # type: ignore[arg-type]
        return lines[-1]

    transfer = TwoSidedTransfer(8, lambda: 0.0, lambda _: None)
    shares = [Share(transfer, REQUEST, (0,), (0,))]
    carrier = Carrier(ends_with(make_line), lambda: shares.pop() if shares else None)
    carrier.connect()
    seen: list[TransferState] = []
    lines[0].when_closed = lambda: seen.append(transfer.poll())
    carrier.thread.start()
    assert lines[0].is_asked.wait(BOUND_SECONDS)
    lines[0].cut()
    carrier.thread.join(BOUND_SECONDS)

    assert seen == [TransferState.FAILED]
