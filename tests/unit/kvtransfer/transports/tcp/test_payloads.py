"""Payloads over a connection to itself, with jobs that run when the test says."""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any, cast

import pytest
from tests.unit.kvtransfer.transports.clocks import Clock
from tests.unit.kvtransfer.transports.tcp.loops import Loop

from twofold_kvtransfer.codecs import CodecName, KvShape, Packing
from twofold_kvtransfer.transports.sockets.connection import Connection
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.transports.sockets.wire import (
    Direction,
    Request,
)
from twofold_kvtransfer.transports.tcp.accounts import Account
from twofold_kvtransfer.transports.tcp.counting import Counts
from twofold_kvtransfer.transports.tcp.moving import checksum_of
from twofold_kvtransfer.transports.tcp.payloads import ROOMS, CodedCells, PayloadMover
from twofold_kvtransfer.transports.tcp.wire import CHUNK_HEAD_BYTES, ChunkHead, decode_chunk_head

SEED = 7
PAYLOAD = b"payload!"
CODING_SECONDS = 1.0
WAIT_SECONDS = 3.0
SHAPE = KvShape(
    regions=1, heads=1, block_tokens=64, head_dim=64, dtype="bfloat16", packing=Packing.CPU
)
"""A cell has 16 KiB."""


class Prompt(Executor):
    """Does a job when it is submitted, after a wait for the thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._clock.now += WAIT_SECONDS
        job: Future[Any] = Future()
        job.set_result(work())
        return job


class Slow(Executor):
    """Does a job when its result is taken."""

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return _Late(work)


class _Late(Future[Any]):
    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self._work = work

    def result(self, timeout: float | None = None) -> Any:
        if not self.done():
            self.set_result(self._work())
        return super().result(timeout)


class Coder:
    """Makes the same payload of any cells, and takes CODING_SECONDS for it."""

    shape = SHAPE

    def __init__(self, clock: Clock, threads: Executor) -> None:
        self.threads = threads
        self._clock = clock

    def bound(self, codec: CodecName, part: tuple[int, int], cell_count: int) -> int:
        return 64

    def encode(
        self,
        codec: CodecName,
        ids: Sequence[int],
        part: tuple[int, int],
        cells: range,
        into: memoryview,
    ) -> int:
        self._clock.now += CODING_SECONDS
        into[: len(PAYLOAD)] = PAYLOAD
        return len(PAYLOAD)

    def decode(
        self,
        codec: CodecName,
        ids: Sequence[int],
        part: tuple[int, int],
        cells: range,
        payload: memoryview,
    ) -> None:
        self._clock.now += CODING_SECONDS

    def close(self) -> None:
        """Nothing to end."""


def cells(count: int) -> CodedCells:
    """Each is a chunk."""
    request = Request(Direction.READ, True, 1, 1, 0, 16_384, first=0, count=count, codec="int4")
    return CodedCells(request, (0,), (0, 16_384))


class Moved:
    """Sends and receives *count* chunks; the coder's threads are late if *slow*."""

    def __init__(self, count: int = 1, *, slow: bool = False) -> None:
        clock = Clock()
        self.loop = Loop()
        self.account = Account(clock)
        self.cells = cells(count)
        coder = Coder(clock, Slow() if slow else Prompt(clock))
        self.mover = PayloadMover(coder, Counts(), None, clock)

    def send(self) -> None:
        self.mover.send(cast("Connection", self.loop), self.cells, SEED)

    def receive(self) -> bool:
        connection = cast("Connection", self.loop)
        return self.mover.receive(connection, self.cells, SEED, self.account)


def test_the_wait_for_a_thread_counts_as_encoding() -> None:
    moved = Moved()
    moved.send()

    head = decode_chunk_head(bytes(moved.loop.data[:CHUNK_HEAD_BYTES]), SEED)
    assert head.encode_nanoseconds == pytest.approx((WAIT_SECONDS + CODING_SECONDS) * 1e9)


def test_the_wait_for_a_thread_counts_as_decoding() -> None:
    moved = Moved(2)
    moved.send()

    assert moved.receive()
    assert moved.account.stages().decode_seconds == 2 * (WAIT_SECONDS + CODING_SECONDS)
    assert moved.account.stages().is_coded


def test_what_waits_for_its_payloads_to_be_decoded_is_held_up() -> None:
    moved = Moved(ROOMS + 2, slow=True)
    moved.send()

    assert moved.receive()
    assert moved.account.stages().held_up_seconds == 2 * CODING_SECONDS


def test_who_decodes_in_time_is_not_held_up() -> None:
    moved = Moved(ROOMS + 2)
    moved.send()

    assert moved.receive()
    assert moved.account.stages().held_up_seconds == 0


@pytest.mark.parametrize("size_bytes", [0, 65, 2**64 - 1])
def test_a_payload_of_no_bytes_or_of_more_than_there_is_room_for_makes_no_sense(
    size_bytes: int,
) -> None:
    moved = Moved()
    moved.loop.data += ChunkHead(checksum_of([], SEED), size_bytes, 0).encode(SEED)

    with pytest.raises(TransferError) as raised:
        moved.receive()
    assert raised.value.failure is Failure.PROTOCOL


def test_chunks_of_more_than_two_mebibytes_are_not_coded_unless_one_cell_has_more() -> None:
    moved = Moved()
    request = moved.cells.request

    assert moved.mover.takes(replace(request, run_cells=128))
    assert not moved.mover.takes(replace(request, run_cells=129))
    assert moved.mover.takes(replace(request, part_bytes=129 * 16_384))
