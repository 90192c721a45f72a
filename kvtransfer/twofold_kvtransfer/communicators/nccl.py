"""NCCL: between two GPUs, over NVLink, PCIe, InfiniBand or TCP, as NCCL finds.

It is called through vLLM's binding. PyTorch's process group would bring a watchdog, which ends the
whole process when a peer of one communicator dies. **This has not run on NCCL yet**: its tests use
doubles of NCCL and of the GPU.

NCCL's kernels wait on the GPU for the peer's. Neither side starts one before the other has agreed
to the request that it is for, on the line's own connection. A side that stands still after that
lets the other's kernel wait: its end is looked for from outside, and when the peer has gone, or
after ``idle_seconds``, the communicator is aborted, which ends its kernels. They run on a stream of
their own for each line, that no other work waits behind.
Between each two processes there may be two communicators. Their kernels end in any order as long as
all of them fit on the GPU at once; where they do not, or where a call such as ``cudaFree`` waits
for all of them, two GPUs may wait for each other until that time limit, and transfers then fail.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Literal, NoReturn

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.communicators.device_buffers import DeviceBuffers
from twofold_kvtransfer.communicators.gpu import Gpu
from twofold_kvtransfer.communicators.nccl_link import Link
from twofold_kvtransfer.communicators.nccl_making import GivenUp, Making
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.transports.two_sided import Limits, Mailbox

LOOK_SECONDS = 0.0001


class NcclMissingError(TwofoldError):
    """There is no NCCL here."""


class NcclLibrary:
    name = "nccl"
    memory: Literal["dram", "vram"] = "vram"
    checks_integrity = False
    """It would take a pass over the memory of both GPUs."""
    chunk_bytes = 16 << 20

    def __init__(self, nccl: Any = None, gpu_of: Callable[[int], Gpu] = Gpu) -> None:
        """*nccl* has the calls of vLLM's ``NCCLLibrary``, which is the default.

        Raises:
            NcclMissingError: it cannot be loaded.
        """
        self._nccl = _load() if nccl is None else nccl
        self._gpu_of = gpu_of
        self._given_up = GivenUp()
        self._lock = threading.Lock()
        self._gpu: Gpu | None = None

    def join(
        self, rank: int, mailbox: Mailbox, blocks: BlockMap, buffer_bytes: int, limits: Limits
    ) -> "NcclCommunicator":
        gpu = self._gpu_under(blocks)

        def make(unique_id: Any) -> Link:
            return connected(self._nccl, unique_id, rank, gpu)

        link = make_link(self._nccl, rank, mailbox, limits, make, self._given_up)
        try:
            # Only now: a making that never ends would keep them.
            buffers = gpu.buffers(blocks, buffer_bytes)
        except RuntimeError:
            link.close()
            raise
        return NcclCommunicator(link, buffers, mailbox.has_ended, limits)

    def close(self) -> None: ...

    def _gpu_under(self, blocks: BlockMap) -> Gpu:
        """Return that of the transport's blocks, the same for all its pairs."""
        with self._lock:
            if self._gpu is None:
                self._gpu = self._gpu_of(blocks.device)
            return self._gpu


class NcclCommunicator:
    """Owns *link*, which only the line's own thread uses and closes: a cut is a wish, and that
    thread, which never waits but by looking, carries it out."""

    def __init__(
        self,
        link: Link,
        buffers: DeviceBuffers,
        has_ended: Callable[[], bool],
        limits: Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._link = link
        self._slots = buffers.slots
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
        return self._start(self._link.send, slot, size_bytes)

    def receive(self, slot: int, size_bytes: int) -> "_Kernel":
        return self._start(self._link.receive, slot, size_bytes)

    def cut(self) -> None:
        self._cut.set()

    def close(self) -> None:
        self._link.close()

    def wait_for(self, event: Any) -> None:
        give_up_at = self._clock() + self._idle_seconds
        while not event.query():
            if self._cut.is_set() or self._has_ended():
                self._fail(Failure.PEER_LOST, "the line was cut or the peer has gone")
            if self._clock() > give_up_at:
                self._fail(Failure.TIMEOUT, f"NCCL took more than {self._idle_seconds} s")
            self._sleep(LOOK_SECONDS)

    def _start(self, start: Callable[[int, int], Any], slot: int, size_bytes: int) -> "_Kernel":
        if self._link.is_closed or self._cut.is_set():
            self._fail(Failure.PEER_LOST, "the line was cut")
        try:
            return _Kernel(self, start(self._slots[slot].data_ptr(), size_bytes))
        except RuntimeError as error:
            self.close()
            raise TransferError(Failure.PEER_LOST, str(error)) from error

    def _fail(self, failure: Failure, text: str) -> NoReturn:
        self.close()
        raise TransferError(failure, text)


class _Kernel:
    def __init__(self, communicator: NcclCommunicator, event: Any) -> None:
        self._communicator = communicator
        self._event = event

    def wait(self) -> None:
        self._communicator.wait_for(self._event)


def make_link(
    nccl: Any,
    rank: int,
    mailbox: Mailbox,
    limits: Limits,
    make: Callable[[Any], Link],
    given_up: GivenUp,
    clock: Callable[[], float] = time.monotonic,
) -> Link:
    """Return what *make* makes of NCCL's id for it, which comes from rank 0.

    Raises:
        TransferError: the peer has gone, or takes too long.
    """
    if rank == 0:
        unique_id = nccl.ncclGetUniqueId()
        mailbox.put(bytes(unique_id.internal))
    else:
        unique_id = _unique_id(nccl, mailbox.take())
    making = Making(lambda: make(unique_id), given_up)
    return making.wait(limits.connect_seconds, mailbox.has_ended, clock)


def connected(nccl: Any, unique_id: Any, rank: int, gpu: Gpu) -> Link:
    """Return one that is being connected to the peer's.

    Raises:
        RuntimeError: NCCL or CUDA fails.
    """
    first = gpu.memory(2)
    link = Link(nccl, rank, gpu.open_stream(), first, gpu.use)
    try:
        link.connect(unique_id)
    except RuntimeError:
        link.close()
        raise
    return link


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
