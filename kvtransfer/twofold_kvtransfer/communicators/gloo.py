"""gloo: PyTorch's communicators over TCP, between CPUs.

A group is made of the class itself: ``torch.distributed``'s default group, which is vLLM's, and its
registry know nothing of it. Its two ranks learn each other's addresses over the line's own
connection, so that there is no store that listens. Its ports know no key; what comes by them is
compared with checksums that come by the line.
"""

from datetime import timedelta
from typing import Any, Literal

import torch
from torch.distributed import ProcessGroupGloo

from twofold_kvtransfer.blocks import BlockMap
from twofold_kvtransfer.communicators.host_buffers import HostBuffers
from twofold_kvtransfer.communicators.mail_store import MailStore
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.transports.two_sided import Limits, Mailbox

_TAG = 0
_NO_TAG = 1
"""Of what nobody ever sends."""
_INSTANT = timedelta(milliseconds=1)


class GlooLibrary:
    name = "gloo"
    memory: Literal["dram", "vram"] = "dram"
    checks_integrity = True
    chunk_bytes = 4 << 20

    def __init__(self, host: str) -> None:
        """*host* is this side's own address. Owns a thread and a port for all communicators."""
        self._device = ProcessGroupGloo.create_device(hostname=host)

    def join(
        self, rank: int, mailbox: Mailbox, blocks: BlockMap, buffer_bytes: int, limits: Limits
    ) -> "GlooCommunicator":
        # PyTorch has no other name for them, and no other way to choose the device.
        options = ProcessGroupGloo._Options()  # noqa: SLF001
        options._devices = [self._device]  # noqa: SLF001
        options._threads = 1  # noqa: SLF001
        options._timeout = timedelta(seconds=limits.connect_seconds)  # noqa: SLF001
        store = MailStore(mailbox)
        try:
            group = ProcessGroupGloo(store, rank, 2, options)
        except RuntimeError as error:
            raise store.failure or _failed(error) from error
        return GlooCommunicator(group, 1 - rank, HostBuffers(blocks, buffer_bytes), limits)

    def close(self) -> None:
        self._device = None


class GlooCommunicator:
    """Its group, and the buffers.

    gloo has no call that ends another's wait, and ``abort`` does nothing in it. But a wait that
    runs out of time breaks all connections of its group, and so every other wait on it.
    """

    def __init__(self, group: Any, peer: int, buffers: HostBuffers, limits: Limits) -> None:
        self._group = group
        self._peer = peer
        self._idle = timedelta(seconds=limits.idle_seconds)
        self._slots = [torch.from_numpy(slot) for slot in buffers.slots]
        self.load = buffers.load
        self.unload = buffers.unload
        self.checksum = buffers.checksum

    def send(self, slot: int, size_bytes: int) -> "_Sending":
        return self._start(self._group.send, slot, size_bytes)

    def receive(self, slot: int, size_bytes: int) -> "_Sending":
        return self._start(self._group.recv, slot, size_bytes)

    def cut(self) -> None:
        nothing = torch.empty(1, dtype=torch.uint8)
        try:
            self._group.recv([nothing], self._peer, _NO_TAG).wait(_INSTANT)
        except RuntimeError:
            return  # as it should be: out of time, or broken before

    def close(self) -> None:
        self._group = None

    def _start(self, call: Any, slot: int, size_bytes: int) -> "_Sending":
        try:
            return _Sending(call([self._slots[slot][:size_bytes]], self._peer, _TAG), self._idle)
        except RuntimeError as error:
            raise _failed(error) from error


class _Sending:
    def __init__(self, work: Any, limit: timedelta) -> None:
        self._work = work
        self._limit = limit

    def wait(self) -> None:
        try:
            self._work.wait(self._limit)
        except RuntimeError as error:
            raise _failed(error) from error


def _failed(error: RuntimeError) -> TransferError:
    text = str(error)
    if "Timed out" in text:
        return TransferError(Failure.TIMEOUT, "gloo moved too little for too long")
    return TransferError(Failure.PEER_LOST, f"gloo: {text.splitlines()[0]}")
