"""NCCL: between two GPUs, over NVLink, PCIe, InfiniBand or TCP, as NCCL finds.

It is called through vLLM's binding. PyTorch's process group would bring a watchdog, which ends the
whole process when a peer of one communicator dies. **This has not run on NCCL yet**: its tests use
doubles of NCCL and of the streams.

NCCL's kernels wait on the GPU for the peer's. Neither side starts one before the other has agreed
to, on the line's own connection, and all wait for ends that are looked for from outside: when the
peer has gone, or after ``idle_seconds``, the communicator is aborted, which ends its kernels.
Between each two processes there may be two communicators. Their kernels end in any order as long as
all of them fit on the GPU at once; where they do not, or where a call such as ``cudaFree`` waits
for all of them, two GPUs may wait for each other until that time limit, and transfers then fail.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.communicators.device_buffers import DeviceBuffers, cuda_rows_at
from twofold_kvtransfer.communicators.nccl_making import Making
from twofold_kvtransfer.transports.tcp.failing import Failure, TransferError
from twofold_kvtransfer.transports.two_sided import Limits, Mailbox

LOOK_SECONDS = 0.0001
_UINT8 = 1
"""``ncclUint8`` in nccl.h."""


class NcclMissingError(TwofoldError):
    """There is no NCCL here."""


class NcclLibrary:
    name = "nccl"
    memory: Literal["dram", "vram"] = "vram"
    checks_integrity = False
    """It would take a pass over the memory of both GPUs."""
    chunk_bytes = 16 << 20

    def __init__(self, nccl: Any = None) -> None:
        """*nccl* has the calls of vLLM's ``NCCLLibrary``, which is the default.

        Raises:
            NcclMissingError: it cannot be loaded.
        """
        self._nccl = _load() if nccl is None else nccl

    def join(
        self, rank: int, mailbox: Mailbox, blocks: BlockMap, buffer_bytes: int, limits: Limits
    ) -> "NcclCommunicator":
        device = torch.device("cuda", blocks.device)
        copies, link = torch.cuda.Stream(device), torch.cuda.Stream(device)

        @contextmanager
        def copying() -> Iterator[None]:
            with torch.cuda.device(device), torch.cuda.stream(copies):
                yield
            copies.synchronize()

        with torch.cuda.device(device):
            buffers = DeviceBuffers(blocks, buffer_bytes, device, copying, cuda_rows_at)

        def make(unique_id: Any) -> Any:
            with torch.cuda.device(device):
                pointers = [slot.data_ptr() for slot in buffers.slots]
                return connected(self._nccl, unique_id, rank, pointers, link.cuda_stream)

        comm = make_comm(self._nccl, rank, mailbox, limits, make)
        return NcclCommunicator(
            self._nccl, comm, 1 - rank, buffers, link, mailbox.has_ended, limits
        )

    def close(self) -> None: ...


class NcclCommunicator:
    """Owns *comm*, which only the line's own thread uses and aborts: a cut is a wish, and that
    thread, which never waits but by looking, carries it out."""

    def __init__(
        self,
        nccl: Any,
        comm: Any,
        peer: int,
        buffers: DeviceBuffers,
        link: Any,
        has_ended: Callable[[], bool],
        limits: Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """*link* is the ``torch.cuda.Stream`` that NCCL's kernels run on."""
        self._nccl = nccl
        self._comm = comm
        self._peer = peer
        self._slots = buffers.slots
        self._link = link
        self._has_ended = has_ended
        self._idle_seconds = limits.idle_seconds
        self._clock = clock
        self._sleep = sleep
        self._cut = threading.Event()
        self.load = buffers.load
        self.unload = buffers.unload

    def checksum(self, slot: int, size_bytes: int, seed: int) -> int:
        return 0

    def send(self, slot: int, size_bytes: int) -> "_Kernel":
        return self._start(self._nccl.ncclSend, slot, size_bytes)

    def receive(self, slot: int, size_bytes: int) -> "_Kernel":
        return self._start(self._nccl.ncclRecv, slot, size_bytes)

    def cut(self) -> None:
        self._cut.set()

    def close(self) -> None:
        """Abort it: to destroy it in good order NCCL would wait for the peer."""
        if self._comm is not None:
            comm, self._comm = self._comm, None
            self._nccl.ncclCommAbort(comm)

    def wait_for(self, event: Any) -> None:
        give_up_at = self._clock() + self._idle_seconds
        while not event.query():
            if self._cut.is_set() or self._has_ended():
                self._fail(Failure.PEER_LOST, "the line was cut or the peer has gone")
            if self._clock() > give_up_at:
                self._fail(Failure.TIMEOUT, f"NCCL took more than {self._idle_seconds} s")
            self._sleep(LOOK_SECONDS)

    def _start(self, call: Callable[..., None], slot: int, size_bytes: int) -> "_Kernel":
        if self._comm is None or self._cut.is_set():
            self._fail(Failure.PEER_LOST, "the line was cut")
        pointer = self._slots[slot].data_ptr()
        try:
            call(pointer, size_bytes, _UINT8, self._peer, self._comm, self._link.cuda_stream)
        except RuntimeError as error:
            self.close()
            raise TransferError(Failure.PEER_LOST, str(error)) from error
        return _Kernel(self, self._link.record_event())

    def _fail(self, failure: Failure, text: str) -> None:
        self.close()
        raise TransferError(failure, text)


class _Kernel:
    def __init__(self, communicator: NcclCommunicator, event: Any) -> None:
        self._communicator = communicator
        self._event = event

    def wait(self) -> None:
        self._communicator.wait_for(self._event)


def make_comm(
    nccl: Any,
    rank: int,
    mailbox: Mailbox,
    limits: Limits,
    make: Callable[[Any], Any],
    clock: Callable[[], float] = time.monotonic,
) -> Any:
    """Return what *make* makes of NCCL's id for it, which comes from rank 0.

    Raises:
        TransferError: the peer has gone, or takes too long.
    """
    if rank == 0:
        unique_id = nccl.ncclGetUniqueId()
        mailbox.put(bytes(unique_id.internal))
    else:
        unique_id = _unique_id(nccl, mailbox.take())
    making = Making(lambda: make(unique_id), nccl.ncclCommAbort)
    return making.wait(limits.connect_seconds, mailbox.has_ended, clock)


def connected(nccl: Any, unique_id: Any, rank: int, pointers: list[int], stream: int) -> Any:
    """Make a communicator and start a byte each way, from the first of *pointers* and to the
    second: with the first bytes NCCL makes its connections, and waits for the peer."""
    comm = nccl.ncclCommInitRank(2, unique_id, rank)
    try:
        nccl.ncclGroupStart()
        nccl.ncclSend(pointers[0], 1, _UINT8, 1 - rank, comm, stream)
        nccl.ncclRecv(pointers[1], 1, _UINT8, 1 - rank, comm, stream)
        nccl.ncclGroupEnd()
    except RuntimeError:
        nccl.ncclCommAbort(comm)
        raise
    return comm


def _unique_id(nccl: Any, data: bytes) -> Any:
    try:
        return nccl.unique_id_from_bytes(data)
    except ValueError as error:
        raise TransferError(Failure.PROTOCOL, str(error)) from error


def _load() -> Any:
    from vllm.distributed.device_communicators.pynccl_wrapper import NCCLLibrary

    try:
        return NCCLLibrary()
    except (OSError, ValueError, AttributeError) as error:
        raise NcclMissingError(f"NCCL cannot be loaded: {error}") from error
