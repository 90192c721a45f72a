"""What every transport promises; ``tests/integration/transports`` holds each to it.

A transport stands on the blocks of one engine process. Two processes exchange ``describe()`` over
a channel of their own, each opens a :class:`Pair` with what the other said, and either may then
read or write the other's blocks. Nothing here blocks but ``open`` and ``close``; a transfer is
polled. One thread uses a transport, but for ``open``, which may run beside it in others, in several
at once.
"""

import enum
from typing import Protocol, runtime_checkable

from twofold_cluster.errors import TwofoldError
from twofold_kvtransfer.blocks import BlockMap, Move
from twofold_kvtransfer.codecs import CodecName

CHECKSUM = "checksum"
"""How the reason begins of a transfer whose blocks arrived otherwise than they were sent."""


class PeerError(TwofoldError):
    """A pair that cannot be opened: the peer is not there, or speaks otherwise."""


class TransferState(enum.Enum):
    MOVING = "moving"
    DONE = "done"
    FAILED = "failed"


class Transfer(Protocol):
    """One move of blocks, which ends once: done, or failed for a reason that stays."""

    size_bytes: int
    """Of all blocks together."""

    def poll(self) -> TransferState:
        """Look how far it is. What the last answer was it stays once it is not ``MOVING``."""

    @property
    def reason(self) -> str | None:
        """Why it failed; None unless it did."""

    @property
    def seconds(self) -> float:
        """From its start to its end, or until now."""

    def cancel(self) -> None:
        """Make it fail with the reason ``cancelled``, unless it has ended.

        Local memory may be written until ``poll`` no longer says ``MOVING``.
        """


@runtime_checkable
class CodedTransfer(Protocol):
    """What a transfer tells beside, if its transport may move less than the blocks."""

    codec: CodecName

    @property
    def payload_bytes(self) -> int:
        """What has been moved in place of the blocks."""


def payload_bytes_of(transfer: Transfer) -> int:
    """Return what moved for a *transfer* that is done; blocks that are not coded are their own
    payload."""
    if isinstance(transfer, CodedTransfer):
        return transfer.payload_bytes
    return transfer.size_bytes


class Pair(Protocol):
    """This process and one peer, in one incarnation of both."""

    def read(self, move: Move) -> Transfer:
        """Start to fetch the peer's ``move.remote`` into ``move.local``.

        Raises:
            InvalidBlocksError: blocks that one of the sides does not have.
        """

    def write(self, move: Move) -> Transfer:
        """Start to put ``move.local`` into the peer's ``move.remote``.

        Raises:
            InvalidBlocksError: blocks that one of the sides does not have.
        """

    def close(self, reason: str) -> None:
        """Fail at once, for *reason*, what is still moving and what is started later."""


class Transport(Protocol):
    """Moves the blocks of one map; what it learned of peers ends with it."""

    name: str
    checks_integrity: bool
    """Whether what arrived is compared with what was sent, so that a flipped bit fails the
    transfer."""

    @property
    def ended_for(self) -> str | None:
        """Why it moves nothing any more, and another must be made; None while it does."""

    def describe(self) -> bytes:
        """Return what a peer's :meth:`open` needs; it holds for the life of this transport."""

    def open(self, description: bytes, remote: BlockMap) -> Pair:
        """Make ready to move blocks to and from the process that *description* is of.

        *remote* is the peer's map, or the part of it that this side takes. May take seconds.

        Raises:
            PeerError: nobody is there, or it is not of this transport.
            InvalidBlocksError: *remote* has another geometry than the local blocks.
        """

    def close(self) -> None:
        """Fail what is still moving and give back memory, threads and ports."""
