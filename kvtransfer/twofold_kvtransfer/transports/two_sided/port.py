"""What a library has to offer that blocks can be sent and received with."""

from dataclasses import dataclass
from typing import Literal, Protocol

from twofold_kvtransfer.blocks import BlockIds, BlockMap

SLOT_COUNT = 2
"""Buffers of a communicator: one is filled or emptied while the other is under way."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Some cells of the blocks *ids*, in the order of :mod:`transports.sockets.cells`."""

    ids: BlockIds
    part: tuple[int, int]
    """What is meant of a block in its region: offset and length, bytes."""
    numbers: range

    @property
    def size_bytes(self) -> int:
        return len(self.numbers) * self.part[1]


@dataclass(frozen=True, slots=True)
class Limits:
    connect_seconds: float
    idle_seconds: float
    """For one buffer to be sent or received."""


class Mailbox(Protocol):
    """Messages to and from the peer while a communicator is made, and whether it is there."""

    def put(self, message: bytes) -> None:
        """Raises:
        TransferError: the peer has gone.
        """

    def take(self) -> bytes:
        """Raises:
        TransferError: the peer has gone, or says nothing.
        """

    def has_ended(self) -> bool:
        """Whether the peer has gone. It may be asked at any time by the line's own thread."""


class Pending(Protocol):
    """A buffer that is being sent or received."""

    def wait(self) -> None:
        """Wait until the buffer may be used again.

        Raises:
            TransferError: the peer has gone or takes too long, or the communicator was cut.
        """


class Communicator(Protocol):
    """Two ranks, and ``SLOT_COUNT`` buffers on this side. One thread uses it; any may cut it."""

    def load(self, slot: int, cells: Cells) -> None:
        """Copy *cells* to the buffer; when it returns, no more is read of them."""

    def unload(self, slot: int, cells: Cells) -> None:
        """Copy the buffer to *cells*; when it returns, no more is written to them."""

    def checksum(self, slot: int, size_bytes: int, seed: int) -> int:
        """Return that of what the buffer begins with; 0 where the library checks nothing."""

    def send(self, slot: int, size_bytes: int) -> Pending:
        """Raises:
        TransferError: as ``Pending.wait`` does.
        """

    def receive(self, slot: int, size_bytes: int) -> Pending:
        """Raises:
        TransferError: as ``Pending.wait`` does.
        """

    def cut(self) -> None:
        """Make whoever waits fail soon, and all that comes later."""

    def close(self) -> None:
        """Give back all that it holds, whether or not it works still; what goes wrong is logged."""


class Library(Protocol):
    """Makes communicators for the pairs of one transport."""

    name: str
    memory: Literal["dram", "vram"]
    """That whose blocks it moves."""
    checks_integrity: bool
    chunk_bytes: int
    """Of a buffer, unless a single cell is more."""

    def join(
        self, rank: int, mailbox: Mailbox, blocks: BlockMap, buffer_bytes: int, limits: Limits
    ) -> Communicator:
        """Make one with the peer, which has the other rank of 0 and 1.

        Raises:
            TransferError: the peer has gone, or takes too long.
            RuntimeError, MemoryError, OSError: the library lacks something here, such as memory.
        """

    def close(self) -> None:
        """Give back what all communicators shared; they were closed before."""
