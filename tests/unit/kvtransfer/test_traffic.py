from dataclasses import dataclass
from typing import cast

from twofold_kvtransfer.codecs import CodecName
from twofold_kvtransfer.traffic import RECENT_COUNT, Traffic
from twofold_kvtransfer.transports import Transfer, TransferState


@dataclass
class FakeTransfer:
    size_bytes: int
    seconds: float
    state: TransferState = TransferState.DONE

    def poll(self) -> TransferState:
        return self.state


@dataclass
class FakeCodedTransfer(FakeTransfer):
    codec: CodecName = "int8"
    payload_bytes: int = 0


def traffic_of(*transfers: FakeTransfer) -> Traffic:
    traffic = Traffic()
    for transfer in transfers:
        traffic.note(cast("Transfer", transfer))
    return traffic


def test_bytes_and_seconds_are_of_what_has_arrived() -> None:
    failed = FakeTransfer(50, 7.0, TransferState.FAILED)
    abandoned = FakeTransfer(50, 7.0, TransferState.MOVING)

    found = traffic_of(FakeTransfer(100, 2.0), failed, abandoned, FakeTransfer(200, 1.0)).snapshot()

    assert (found.done_count, found.failed_count) == (2, 2)
    assert (found.read_bytes, found.read_seconds) == (300, 3.0)


def test_payloads_are_counted_as_they_went_and_blocks_as_they_are() -> None:
    coded = FakeCodedTransfer(200, 1.0, payload_bytes=80)

    found = traffic_of(FakeTransfer(100, 1.0), coded).snapshot()

    assert (found.read_bytes, found.payload_bytes) == (300, 180)
    assert found.bytes_per_second == 150.0


def test_one_slow_transfer_does_not_shift_the_bandwidth() -> None:
    quick = [FakeTransfer(100, 1.0)] * 4

    assert traffic_of(*quick, FakeTransfer(100, 1000.0)).snapshot().bytes_per_second == 100.0


def test_the_bandwidth_is_of_the_last_transfers() -> None:
    before, after = FakeTransfer(100, 1.0), FakeTransfer(100, 2.0)

    found = traffic_of(*[before] * 1000, *[after] * RECENT_COUNT).snapshot()

    assert found.bytes_per_second == 50.0


def test_nothing_and_what_takes_no_time_has_no_bandwidth() -> None:
    assert traffic_of().snapshot().bytes_per_second is None
    assert traffic_of(FakeTransfer(0, 0.0), FakeTransfer(5, 0.0)).snapshot().done_count == 2
    assert (
        traffic_of(FakeTransfer(0, 1.0), FakeTransfer(5, 0.0)).snapshot().bytes_per_second is None
    )
