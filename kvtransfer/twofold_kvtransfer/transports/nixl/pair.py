"""A peer, and the moves to and from its blocks."""

from collections.abc import Callable

from twofold_kvtransfer.blocks import BlockMap, Move
from twofold_kvtransfer.transports.nixl.lists import first_indices, indices_of
from twofold_kvtransfer.transports.nixl.mover import Mover, RemoteBlocks
from twofold_kvtransfer.transports.nixl.transfer import NixlTransfer


class NixlPair:
    """Reads from and writes to one peer until it is closed, by its owner or with the transport."""

    def __init__(
        self,
        mover: Mover,
        remote: RemoteBlocks,
        remote_map: BlockMap,
        letting_go_seconds: float,
        when_overdue: Callable[[NixlTransfer], None],
    ) -> None:
        self.remote = remote
        self.clock = mover.clock
        self.unended: set[NixlTransfer] = set()
        self._mover = mover
        self._remote_map = remote_map
        self._firsts = first_indices(mover.local), first_indices(remote_map)
        self._letting_go_seconds = letting_go_seconds
        self._when_overdue = when_overdue
        self._closed_for: str | None = None

    def read(self, move: Move) -> NixlTransfer:
        return self._start("READ", move)

    def write(self, move: Move) -> NixlTransfer:
        return self._start("WRITE", move)

    @property
    def is_closed(self) -> bool:
        return self._closed_for is not None

    def close(self, reason: str) -> None:
        """Fail what moves for *reason*: what NIXL lets go of within a short time, now, and the
        rest when it does."""
        if self.is_closed:
            return
        self.refuse(reason)
        self._mover.let_go(self.unended, self._letting_go_seconds)
        if not self.unended:
            self._mover.part(self.remote)

    def refuse(self, reason: str) -> None:
        """Let what moves, and what is started later, fail for *reason* when NIXL lets go of it."""
        self._closed_for = self._closed_for or reason
        for transfer in list(self.unended):
            transfer.want_to_fail(reason)

    def advance(self, transfer: NixlTransfer) -> None:
        """See how far *transfer* is; a poll."""
        self._mover.advance(transfer)
        if self._mover.is_overdue(transfer):
            self._when_overdue(transfer)

    def _start(self, operation: str, move: Move) -> NixlTransfer:
        local = self._mover.local
        local.check(move.local)
        self._remote_map.check(move.remote)
        local_firsts, remote_firsts = self._firsts
        indices = indices_of(local_firsts, move.local), indices_of(remote_firsts, move.remote)
        size_bytes = len(move.local) * local.bytes_per_block
        transfer = NixlTransfer(self, operation, indices, size_bytes)
        if self._closed_for is not None:
            transfer.end(self._closed_for)
        elif not move.local:
            transfer.end()
        else:
            self.unended.add(transfer)
            self._mover.start(transfer)
        return transfer
