"""Blocks over a library that can only send and receive, such as NCCL.

Each pair has a *line* of its own: a TCP connection on which the two sides agree, and beside it a
communicator of two ranks on which the bytes move. The one who opened the pair orders everything
on its line, one transfer after the other, and the peer does what it is told, in that order.
What one side reads and what the other reads move on two lines, with two threads. So on no line can
the two sides await each other: both do the same things in the same order, and neither starts to
send or receive what the other has not agreed to. What cannot come any more ends with the TCP
connection, which the kernel ends when the peer's process dies or its host vanishes, and every wait
has a limit beside.

The bytes of a transfer go through two buffers of some MiB a side (``Library.chunk_bytes``, or one
cell if that is more), so that one is filled while the other is under way. A peer's bytes never go
straight into blocks: a transfer that is cancelled ends at once, its pair stays as it is, and what
still comes for it is thrown away.

The libraries are in ``twofold_kvtransfer.communicators``, which alone imports PyTorch.
"""

from twofold_kvtransfer.transports.two_sided.port import (
    SLOT_COUNT,
    Cells,
    Communicator,
    Library,
    Limits,
    Mailbox,
    Pending,
)
from twofold_kvtransfer.transports.two_sided.settings import TwoSidedSettings
from twofold_kvtransfer.transports.two_sided.transport import TwoSidedTransport

__all__ = [
    "SLOT_COUNT",
    "Cells",
    "Communicator",
    "Library",
    "Limits",
    "Mailbox",
    "Pending",
    "TwoSidedSettings",
    "TwoSidedTransport",
]
