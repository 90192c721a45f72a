"""Doubles for tests of what stands on a transport, and blocks to move."""

import enum
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twofold_kvtransfer.blocks import BlockIds, BlockMap, Move, check_alike
from twofold_kvtransfer.transports.port import PeerError, TransferState

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class HostBlocks:
    """Blocks in this process's memory, which live as long as this object."""

    memory: Bytes
    """Shape ``(regions, blocks, stride_bytes)``."""
    map: BlockMap

    def cells(self, ids: BlockIds, part: tuple[int, int] | None = None) -> Bytes:
        """Return a copy of blocks *ids*, shape ``(regions, ids, bytes)``.

        *part* is offset and length within a block; default: the whole.
        """
        offset, length = part or (0, self.map.block_bytes)
        return self.memory[:, list(ids), offset : offset + length].copy()


def host_blocks(
    region_count: int,
    block_count: int,
    block_bytes: int,
    *,
    stride_bytes: int | None = None,
    seed: int | None = None,
) -> HostBlocks:
    """Make blocks of zeros, or of random bytes that *seed* determines, gaps between included."""
    stride = stride_bytes or block_bytes
    shape = (region_count, block_count, stride)
    if seed is None:
        memory = np.zeros(shape, dtype=np.uint8)
    else:
        memory = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return HostBlocks(
        memory,
        BlockMap(
            addresses=tuple(region.ctypes.data for region in memory),
            block_count=block_count,
            block_bytes=block_bytes,
            stride_bytes=stride,
        ),
    )


class Fault(enum.Enum):
    """What may befall the next transfer of a :class:`MemoryTransport`."""

    FAIL = "fail"
    HANG = "hang"
    """It moves until it is cancelled or its pair is closed."""
    FLIP = "flip"
    """One bit arrives wrong."""
    LOSE = "lose"
    """The peer dies."""


class MemoryNetwork:
    """The transports of one process that reach each other."""

    def __init__(self) -> None:
        self._transports: dict[bytes, MemoryTransport] = {}

    def join(self, blocks: HostBlocks, *, checks_integrity: bool = True) -> "MemoryTransport":
        transport = MemoryTransport(self, blocks, checks_integrity=checks_integrity)
        self._transports[transport.describe()] = transport
        return transport

    def find(self, description: bytes) -> "MemoryTransport | None":
        return self._transports.get(description)

    def leave(self, description: bytes) -> None:
        self._transports.pop(description, None)


class MemoryTransport:
    """Copies within this process when it is polled, so that a test decides when."""

    name = "memory"

    def __init__(
        self, network: MemoryNetwork, blocks: HostBlocks, *, checks_integrity: bool
    ) -> None:
        self.checks_integrity = checks_integrity
        self.polls_until_done = 1
        """Of each transfer started from now on."""
        self.blocks = blocks
        self.ended_for: str | None = None
        """To be set by a test: it moves nothing any more."""
        self._network = network
        self._description = secrets.token_bytes(16)
        self._faults: list[Fault] = []
        self._pairs: list[MemoryPair] = []

    def inject(self, fault: Fault) -> None:
        """Let *fault* befall the next transfer that is started here and has no fault yet."""
        self._faults.append(fault)

    def describe(self) -> bytes:
        return self._description

    def open(self, description: bytes, remote: BlockMap) -> "MemoryPair":
        peer = self._network.find(description)
        if peer is None:
            raise PeerError("peer-lost: nobody of that description")
        local = self.blocks.map
        check_alike(local, remote)
        pair = MemoryPair(self, peer, remote)
        self._pairs.append(pair)
        return pair

    def close(self) -> None:
        """End it; seen from its peers, it has died."""
        for pair in self._pairs:
            pair.close("the transport was closed")
        self._network.leave(self._description)

    def is_reachable(self) -> bool:
        return self._network.find(self._description) is self

    def next_fault(self) -> Fault | None:
        return self._faults.pop(0) if self._faults else None


class MemoryPair:
    def __init__(self, here: MemoryTransport, there: MemoryTransport, remote: BlockMap) -> None:
        self._here = here
        self._there = there
        self._remote = remote
        self._transfers: list[MemoryTransfer] = []
        self._closed_for: str | None = None

    def read(self, move: Move) -> "MemoryTransfer":
        return self._start(move, reading=True)

    def write(self, move: Move) -> "MemoryTransfer":
        return self._start(move, reading=False)

    def close(self, reason: str) -> None:
        self._closed_for = self._closed_for or reason
        for transfer in self._transfers:
            transfer.fail(reason)

    def _start(self, move: Move, *, reading: bool) -> "MemoryTransfer":
        local = self._here.blocks.map
        local.check(move.local)
        self._remote.check(move.remote)
        work = _Work(self._here, self._there, self._remote, move, reading)
        transfer = MemoryTransfer(work, self._here.next_fault(), self._here.polls_until_done)
        if self._closed_for is not None:
            transfer.fail(self._closed_for)
        self._transfers.append(transfer)
        return transfer


@dataclass(frozen=True, slots=True)
class _Work:
    here: MemoryTransport
    there: MemoryTransport
    remote: BlockMap
    move: Move
    reading: bool

    def do(self, *, flipped: bool) -> str | None:
        """Copy; return why not."""
        if not self.there.is_reachable():
            return "peer-lost: the peer has gone"
        ours = self._ours()
        theirs = self._theirs()
        source, target = (theirs, ours) if self.reading else (ours, theirs)
        sent = source.read()
        arrived = sent.copy()
        if flipped:
            arrived.flat[0] ^= 1
            if self.here.checks_integrity:
                return "checksum: what arrived is not what was sent"
        target.write(arrived)
        return None

    def _ours(self) -> "_Cells":
        blocks = self.here.blocks
        return _Cells(blocks, self.move.local, 0, blocks.map.block_bytes)

    def _theirs(self) -> "_Cells":
        blocks = self.there.blocks
        offset = self.remote.addresses[0] - blocks.map.addresses[0]
        return _Cells(blocks, self.move.remote, offset, self.remote.block_bytes)


@dataclass(frozen=True, slots=True)
class _Cells:
    blocks: HostBlocks
    ids: BlockIds
    offset: int
    length: int

    def read(self) -> Bytes:
        return self.blocks.cells(self.ids, (self.offset, self.length))

    def write(self, data: Bytes) -> None:
        self.blocks.memory[:, list(self.ids), self.offset : self.offset + self.length] = data


class MemoryTransfer:
    def __init__(
        self,
        work: _Work,
        fault: Fault | None,
        polls: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.size_bytes = len(work.move.local) * work.here.blocks.map.bytes_per_block
        self._work = work
        self._fault = fault
        self._polls_left = polls
        self._clock = clock
        self._state = TransferState.MOVING if work.move.local else TransferState.DONE
        self._reason: str | None = None
        self._started_at = clock()
        self._ended_at = None if work.move.local else self._started_at

    def poll(self) -> TransferState:
        if self._state is TransferState.MOVING:
            self._polls_left -= 1
            self._advance()
        return self._state

    @property
    def reason(self) -> str | None:
        return self._reason

    @property
    def seconds(self) -> float:
        return (self._clock() if self._ended_at is None else self._ended_at) - self._started_at

    def cancel(self) -> None:
        self.fail("cancelled")

    def fail(self, reason: str) -> None:
        """Make it fail, unless it has ended."""
        if self._state is TransferState.MOVING:
            self._end(TransferState.FAILED, reason)

    def _advance(self) -> None:
        if self._fault is Fault.LOSE:
            self._work.there.close()
        if self._fault is Fault.FAIL:
            self.fail("injected: the transfer failed")
        elif self._fault is not Fault.HANG and self._polls_left <= 0:
            reason = self._work.do(flipped=self._fault is Fault.FLIP)
            if reason is None:
                self._end(TransferState.DONE, None)
            else:
                self.fail(reason)

    def _end(self, state: TransferState, reason: str | None) -> None:
        self._state = state
        self._reason = reason
        self._ended_at = self._clock()
