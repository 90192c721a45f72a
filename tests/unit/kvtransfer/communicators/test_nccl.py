"""NCCL's communicator on doubles of NCCL and of its stream; there is no GPU that two may share."""

import threading
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from twofold_kvtransfer.blocks import InvalidBlocksError
from twofold_kvtransfer.communicators.nccl import (
    NcclCommunicator,
    NcclLibrary,
    connected,
    make_comm,
)
from twofold_kvtransfer.communicators.nccl_making import Making
from twofold_kvtransfer.transports.tcp.failing import TransferError
from twofold_kvtransfer.transports.testing import host_blocks
from twofold_kvtransfer.transports.two_sided import Limits, TwoSidedTransport

BOUND_SECONDS = 30.0
LIMITS = Limits(connect_seconds=5, idle_seconds=2)
COMM = object()
UINT8 = 1


class FakeNccl:
    """Has vLLM's names for NCCL's calls, writes down what was called, and fails as it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.failing: set[str] = set()
        self.aborted = threading.Event()

    def ncclGetUniqueId(self) -> Any:  # noqa: N802 - NCCL's name is what counts
        return SimpleNamespace(internal=b"i" * 128)

    def unique_id_from_bytes(self, data: bytes) -> Any:
        if len(data) != 128:
            raise ValueError(f"{len(data)} bytes")
        return SimpleNamespace(internal=data)

    def __getattr__(self, name: str) -> Any:
        def call(*words: Any) -> Any:
            self.calls.append((name, *words))
            if name in self.failing:
                raise RuntimeError(f"NCCL error: {name}")
            if name == "ncclCommAbort":
                self.aborted.set()
            return COMM if name == "ncclCommInitRank" else None

        return call

    def count(self, name: str) -> int:
        return [call[0] for call in self.calls].count(name)


class FakeStream:
    cuda_stream = 77

    def __init__(self) -> None:
        self.looks_left = 0
        """Until what was started has ended."""

    def record_event(self) -> "FakeStream":
        return self

    def query(self) -> bool:
        self.looks_left -= 1
        return self.looks_left < 0


class Rig:
    """A communicator, and all it stands on. Each sleep takes its time of the clock."""

    def __init__(self) -> None:
        self.nccl = FakeNccl()
        self.stream = FakeStream()
        self.now = 0.0
        self.peer_has_gone = False
        slots = [SimpleNamespace(data_ptr=lambda at=at: at) for at in (1000, 2000)]
        buffers: Any = SimpleNamespace(slots=slots, load=None, unload=None)
        self.communicator = NcclCommunicator(
            self.nccl,
            COMM,
            1,
            buffers,
            self.stream,
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
        ("ncclSend", 1000, 10, UINT8, 1, COMM, 77),
        ("ncclRecv", 2000, 20, UINT8, 1, COMM, 77),
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


def test_an_aborted_communicator_is_not_used_again_nor_aborted_twice(rig: Rig) -> None:
    rig.communicator.cut()
    for start in (rig.communicator.send, rig.communicator.receive):
        with pytest.raises(TransferError, match="peer-lost"):
            start(0, 10)
    rig.communicator.close()
    rig.communicator.close()

    assert rig.nccl.calls == [("ncclCommAbort", COMM)]


def test_an_error_of_nccl_ends_the_communicator(rig: Rig) -> None:
    rig.nccl.failing.add("ncclSend")
    with pytest.raises(TransferError, match="peer-lost: NCCL error"):
        rig.communicator.send(0, 10)

    assert rig.nccl.count("ncclCommAbort") == 1


def test_the_making_connects_both_ways_in_one_group() -> None:
    nccl = FakeNccl()

    assert connected(nccl, "id", 0, [1000, 2000], 77) is COMM
    assert nccl.calls == [
        ("ncclCommInitRank", 2, "id", 0),
        ("ncclGroupStart",),
        ("ncclSend", 1000, 1, UINT8, 1, COMM, 77),
        ("ncclRecv", 2000, 1, UINT8, 1, COMM, 77),
        ("ncclGroupEnd",),
    ]


def test_a_communicator_that_cannot_connect_is_aborted() -> None:
    nccl = FakeNccl()
    nccl.failing.add("ncclGroupEnd")
    with pytest.raises(RuntimeError, match="NCCL error"):
        connected(nccl, "id", 0, [1000, 2000], 77)

    assert nccl.calls[-1] == ("ncclCommAbort", COMM)


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
    ids: list[Any] = []

    def make(unique_id: Any) -> Any:
        ids.append(unique_id)
        return COMM

    for rank in (0, 1):
        assert make_comm(FakeNccl(), rank, mailbox, LIMITS, make) is COMM

    assert [each.internal for each in ids] == [b"i" * 128] * 2


def test_what_is_no_id_is_refused() -> None:
    with pytest.raises(TransferError, match="protocol"):
        make_comm(FakeNccl(), 1, FakeMailbox(deque([b"short"])), LIMITS, lambda _: COMM)


@pytest.mark.parametrize("how", ["timeout", "peer-lost"])
def test_a_making_that_does_not_end_is_given_up_and_its_late_result_aborted(how: str) -> None:
    may_end, nccl = threading.Event(), FakeNccl()

    def make() -> Any:
        assert may_end.wait(BOUND_SECONDS)
        return COMM

    making = Making(make, nccl.ncclCommAbort)
    times = iter([0.0, 100.0])
    with pytest.raises(TransferError, match=how):
        making.wait(5, lambda: how == "peer-lost", lambda: next(times))
    assert not nccl.calls
    may_end.set()

    assert nccl.aborted.wait(BOUND_SECONDS)


def test_a_making_that_fails_says_why() -> None:
    def make() -> Any:
        raise RuntimeError("NCCL error: unhandled")

    making = Making(make, lambda _: None)
    with pytest.raises(TransferError, match="NCCL error: unhandled"):
        making.wait(BOUND_SECONDS, lambda: False, lambda: 0.0)


def test_host_memory_is_refused_by_naming_what_takes_it() -> None:
    with pytest.raises(InvalidBlocksError, match=r"nccl moves blocks in vram.*tcp"):
        TwoSidedTransport(host_blocks(1, 1, 8).map, NcclLibrary(FakeNccl()))
