from typing import cast

import pytest
from tests.unit.kvtransfer.transports.tcp.loops import Loop

from twofold_kvtransfer.transports.sockets.connection import Connection
from twofold_kvtransfer.transports.tcp.counting import Counts
from twofold_kvtransfer.transports.tcp.limiting import RateLimit
from twofold_kvtransfer.transports.tcp.moving import Mover
from twofold_kvtransfer.transports.tcp.wire import CHECKSUM_BYTES

RUNS = [[b"abc", b"de"], [b"f"], [b"abc", b"de"]]
LARGEST_SEED = 2**64 - 1


class Moved:
    """Sends ``RUNS`` with one seed and receives them with another."""

    def __init__(self, limit: RateLimit | None = None) -> None:
        self.loop = Loop()
        self.counts = Counts()
        self.mover = Mover(self.counts, limit)
        self.arrived = [[bytearray(len(piece)) for piece in run] for run in RUNS]

    def send(self, seed: int | None) -> None:
        runs = [[memoryview(piece) for piece in run] for run in RUNS]
        self.mover.send(cast("Connection", self.loop), runs, seed)

    def receive(self, seed: int | None) -> bool:
        runs = [[memoryview(piece) for piece in run] for run in self.arrived]
        return self.mover.receive(cast("Connection", self.loop), runs, seed)


@pytest.mark.parametrize("seed", [None, 0, 77, LARGEST_SEED])
def test_runs_arrive_as_they_were_sent(seed: int | None) -> None:
    moved = Moved()
    moved.send(seed)

    assert moved.receive(seed)
    assert moved.arrived == RUNS
    assert moved.counts.snapshot(0, 0).bytes_sent == 11
    assert moved.counts.snapshot(0, 0).bytes_received == 11


def test_the_runs_of_another_request_are_damage() -> None:
    moved = Moved()
    moved.send(1)

    assert not moved.receive(2)


def test_the_same_bytes_in_another_place_are_damage() -> None:
    moved = Moved()
    moved.send(1)
    first, last = slice(0, CHECKSUM_BYTES), slice(-5 - CHECKSUM_BYTES, -5)
    moved.loop.data[first], moved.loop.data[last] = moved.loop.data[last], moved.loop.data[first]

    assert not moved.receive(1)
    assert moved.counts.snapshot(0, 0).damaged_count == 2


def test_damage_does_not_end_the_reception() -> None:
    moved = Moved()
    moved.send(1)
    moved.loop.data[CHECKSUM_BYTES] ^= 1

    assert not moved.receive(1)
    assert moved.loop.data == b""
    assert moved.counts.snapshot(0, 0).damaged_count == 1


def test_without_a_seed_damage_is_not_found() -> None:
    moved = Moved()
    moved.send(None)
    moved.loop.data[CHECKSUM_BYTES] ^= 1

    assert moved.receive(None)
    assert moved.arrived != RUNS


def test_each_run_waits_for_its_turn_on_a_limited_link() -> None:
    moved = Moved(RateLimit(1.0, lambda: 50.0))
    moved.send(None)

    assert moved.loop.pauses == [pytest.approx(5), pytest.approx(6), pytest.approx(11)]
