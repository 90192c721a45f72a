"""A peer, and the transfers that wait for the line to it."""

from collections.abc import Callable

from twofold_kvtransfer.blocks import BlockMap, Move
from twofold_kvtransfer.transports.port import PeerError
from twofold_kvtransfer.transports.sockets.conversation import check_move
from twofold_kvtransfer.transports.sockets.failing import TransferError
from twofold_kvtransfer.transports.sockets.joining import join_all
from twofold_kvtransfer.transports.sockets.waiting import Queue, Share
from twofold_kvtransfer.transports.sockets.wire import Direction, Request
from twofold_kvtransfer.transports.two_sided.carrier import Carrier, Ends
from twofold_kvtransfer.transports.two_sided.line import chunk_cells_for
from twofold_kvtransfer.transports.two_sided.port import Library
from twofold_kvtransfer.transports.two_sided.transfer import TwoSidedTransfer


class TwoSidedPair:
    """Owns the carrier to one peer, and the transfers that wait for it, each as one share."""

    def __init__(
        self,
        ends: Ends,
        library: Library,
        maps: tuple[BlockMap, BlockMap],
        part: tuple[int, int],
        clock: Callable[[], float],
        when_closed: Callable[["TwoSidedPair"], None],
    ) -> None:
        """*maps* are the local and the remote one, *part* is where the remote one lies within the
        peer's blocks: offset and length in bytes.

        Raises:
            PeerError: the peer is not there, or refuses.
        """
        self._library = library
        self._local, self._remote = maps
        self._part = part
        self._clock = clock
        self._when_closed = when_closed
        self._queue = Queue[TwoSidedTransfer](ends.settings.max_transfers_per_pair)
        self._carrier = Carrier(ends, self._queue.take)
        try:
            self._carrier.connect()
        except TransferError as error:
            self._carrier.disconnect()
            raise PeerError(str(error)) from error
        self._carrier.thread.start()

    def read(self, move: Move) -> TwoSidedTransfer:
        return self._start(Direction.READ, move)

    def write(self, move: Move) -> TwoSidedTransfer:
        return self._start(Direction.WRITE, move)

    def close(self, reason: str) -> None:
        if not self._queue.close(reason):
            return
        self._carrier.cut()
        join_all([self._carrier.thread])
        self._when_closed(self)

    def _start(self, direction: Direction, move: Move) -> TwoSidedTransfer:
        check_move(move, self._local, self._remote)
        size_bytes = len(move.local) * self._local.bytes_per_block
        transfer = TwoSidedTransfer(size_bytes, self._clock, self._queue.drop)
        if move.local:
            request = self._request(direction, len(move.remote))
            self._queue.put(transfer, [Share(transfer, request, move.local, move.remote)])
        else:
            transfer.finish()
        return transfer

    def _request(self, direction: Direction, block_count: int) -> Request:
        offset, length = self._part
        return Request(
            direction=direction,
            checksum=self._library.checks_integrity,
            run_cells=chunk_cells_for(length, self._library),
            block_count=block_count,
            part_offset=offset,
            part_bytes=length,
            first=0,
            count=block_count * self._remote.region_count,
        )
