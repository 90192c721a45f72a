"""NCCL's communicator on doubles of NCCL and of a GPU; there is none that two may share."""

from collections import deque
from typing import Any

import pytest
import torch
from tests.unit.kvtransfer.communicators.nccl_doubles import (
    BOUND_SECONDS,
    COMM,
    SLOTS,
    STREAM,
    UINT8,
    FakeNccl,
)

from twofold_kvtransfer.blocks import InvalidBlocksError
from twofold_kvtransfer.communicators.nccl import (
    NcclCommunicator,
    NcclLibrary,
    make_link,
)
from twofold_kvtransfer.communicators.nccl_link import Link
from twofold_kvtransfer.communicators.nccl_making import GivenUp
from twofold_kvtransfer.transports.sockets.failing import TransferError
from twofold_kvtransfer.transports.testing import host_blocks
from twofold_kvtransfer.transports.two_sided import Limits, TwoSidedTransport

LIMITS = Limits(connect_seconds=BOUND_SECONDS, idle_seconds=2)
BLOCKS = host_blocks(1, 1, 8).map


class Rig:
    """A communicator, and all it stands on. Each sleep takes its time of the clock."""

    def __init__(self) -> None:
        self.nccl = FakeNccl()
        self.stream = self.nccl.gpu.stream
        self.now = 0.0
        self.peer_has_gone = False
        gpu = self.nccl.gpu
        link = Link(self.nccl, 0, self.stream, gpu.memory(2), gpu.use)
        link.connect("id")
        self.nccl.calls.clear()
        self.communicator = NcclCommunicator(
            link,
            gpu.buffers(BLOCKS, 8),
            lambda: self.peer_has_gone,
            LIMITS,
            clock=lambda: self.now,
            sleep=self._sleep,
        )

    def _sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_buffer_is_sent_and_received_on_the_stream_and_waited_for(rig: Rig) -> None:
    rig.stream.looks_left = 3
    rig.communicator.send(0, 10).wait()
    rig.communicator.receive(1, 20).wait()

    assert rig.nccl.calls == [
        ("ncclSend", SLOTS[0], 10, UINT8, 1, COMM, STREAM),
        ("ncclRecv", SLOTS[1], 20, UINT8, 1, COMM, STREAM),
    ]
    assert rig.now > 0


@pytest.mark.parametrize("how", ["peer", "cut"])
def test_a_kernel_that_waits_for_a_peer_that_has_gone_is_aborted(rig: Rig, how: str) -> None:
    rig.stream.looks_left = 10**9
    kernel = rig.communicator.receive(0, 10)
    rig.peer_has_gone = how == "peer"
    if how == "cut":
        rig.communicator.cut()
    with pytest.raises(TransferError, match="peer-lost"):
        kernel.wait()

    assert rig.nccl.calls[1:] == [("ncclCommAbort", COMM)]


def test_a_kernel_that_has_ended_counts_even_if_its_peer_has_gone(rig: Rig) -> None:
    kernel = rig.communicator.receive(0, 10)
    rig.peer_has_gone = True
    kernel.wait()

    assert not rig.nccl.count("ncclCommAbort")


def test_a_kernel_that_takes_too_long_is_aborted(rig: Rig) -> None:
    rig.stream.looks_left = 10**9
    with pytest.raises(TransferError, match="timeout"):
        rig.communicator.send(0, 10).wait()

    assert rig.nccl.count("ncclCommAbort") == 1
    assert rig.now == pytest.approx(LIMITS.idle_seconds, abs=0.01)


def test_an_abort_that_fails_does_not_hide_why_it_was_made(rig: Rig) -> None:
    rig.stream.looks_left = 10**9
    rig.nccl.failing.add("ncclCommAbort")
    with pytest.raises(TransferError, match="timeout"):
        rig.communicator.send(0, 10).wait()

    assert rig.stream.close_count == 1


def test_an_aborted_communicator_is_not_used_again_nor_aborted_twice(rig: Rig) -> None:
    rig.communicator.cut()
    for start in (rig.communicator.send, rig.communicator.receive):
        with pytest.raises(TransferError, match="peer-lost"):
            start(0, 10)
    rig.communicator.close()
    rig.communicator.close()

    assert rig.nccl.calls == [("ncclCommAbort", COMM)]
    assert rig.stream.close_count == 1


def test_an_error_of_nccl_ends_the_communicator(rig: Rig) -> None:
    rig.nccl.failing.add("ncclSend")
    with pytest.raises(TransferError, match="peer-lost: NCCL error"):
        rig.communicator.send(0, 10)

    assert rig.nccl.count("ncclCommAbort") == 1


class FakeMailbox:
    def __init__(self, letters: deque[bytes]) -> None:
        self._letters = letters

    def put(self, message: bytes) -> None:
        self._letters.append(message)

    def take(self) -> bytes:
        return self._letters.popleft()

    def has_ended(self) -> bool:
        return False


def test_both_ranks_make_it_of_the_id_of_the_first() -> None:
    mailbox = FakeMailbox(deque())
    nccl = FakeNccl()
    link = Link(nccl, 0, nccl.gpu.stream, nccl.gpu.memory(2))
    ids: list[Any] = []

    def make(unique_id: Any) -> Link:
        ids.append(unique_id)
        return link

    for rank in (0, 1):
        assert make_link(nccl, rank, mailbox, LIMITS, make, GivenUp()) is link

    assert [each.internal for each in ids] == [b"i" * 128] * 2


def test_what_is_no_id_is_refused() -> None:
    with pytest.raises(TransferError, match="protocol"):
        library_on(FakeNccl()).join(1, FakeMailbox(deque([b"short"])), BLOCKS, 8, LIMITS)


def library_on(nccl: FakeNccl) -> NcclLibrary:
    gpu: Any = nccl.gpu
    return NcclLibrary(nccl, lambda _: gpu)


def test_what_joins_is_ready_to_send() -> None:
    nccl = FakeNccl()
    communicator = library_on(nccl).join(0, FakeMailbox(deque()), BLOCKS, 8, LIMITS)
    communicator.send(1, 8).wait()

    assert nccl.calls[-1] == ("ncclSend", SLOTS[1], 8, UINT8, 1, COMM, STREAM)


def test_a_gpu_without_room_for_the_buffers_keeps_no_communicator() -> None:
    nccl = FakeNccl()
    nccl.gpu.is_full = True
    with pytest.raises(torch.OutOfMemoryError):
        library_on(nccl).join(0, FakeMailbox(deque()), BLOCKS, 8, LIMITS)

    assert nccl.calls[-1] == ("ncclCommAbort", COMM)
    assert nccl.gpu.stream.close_count == 1


def test_a_communicator_that_cannot_connect_is_aborted() -> None:
    nccl = FakeNccl()
    nccl.failing.add("ncclGroupEnd")
    with pytest.raises(TransferError, match="protocol: NCCL error: ncclGroupEnd"):
        library_on(nccl).join(0, FakeMailbox(deque()), BLOCKS, 8, LIMITS)

    assert nccl.calls[-1] == ("ncclCommAbort", COMM)
    assert nccl.gpu.stream.close_count == 1


def test_host_memory_is_refused_by_naming_what_takes_it() -> None:
    with pytest.raises(InvalidBlocksError, match=r"nccl moves blocks in vram.*tcp"):
        TwoSidedTransport(BLOCKS, library_on(FakeNccl()))
