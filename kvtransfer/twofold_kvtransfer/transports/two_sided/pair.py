"""A peer, and the transfers that wait for the line to it."""

import threading
from collections import deque
from collections.abc import Callable

from twofold_kvtransfer.blocks import BlockMap, InvalidBlocksError, Move
from twofold_kvtransfer.transports.port import PeerError
from twofold_kvtransfer.transports.tcp.failing import Failure, TransferError
from twofold_kvtransfer.transports.tcp.joining import join_all
from twofold_kvtransfer.transports.tcp.wire import MAX_BLOCKS, Direction, Request
from twofold_kvtransfer.transports.two_sided.carrier import Carrier, Ends, Job
from twofold_kvtransfer.transports.two_sided.line import chunk_cells_for
from twofold_kvtransfer.transports.two_sided.port import Library
from twofold_kvtransfer.transports.two_sided.transfer import TwoSidedTransfer


class TwoSidedPair:
    """Owns the carrier to one peer, and the jobs that wait for it, first come first served."""

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
        self._limit = ends.settings.max_transfers_per_pair
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._moving: set[TwoSidedTransfer] = set()
        self._closed_for: str | None = None
        self._carrier = Carrier(ends, self._take)
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
        with self._changed:
            if self._closed_for is not None:
                return
            self._closed_for = reason
            moving = list(self._moving)
            self._changed.notify_all()
        for transfer in moving:
            transfer.fail(Failure.CLOSED, reason)
        self._carrier.cut()
        join_all([self._carrier.thread])
        self._when_closed(self)

    def _start(self, direction: Direction, move: Move) -> TwoSidedTransfer:
        self._local.check(move.local)
        self._remote.check(move.remote)
        if len(move.remote) > MAX_BLOCKS:
            raise InvalidBlocksError(f"{len(move.remote)} blocks in one move of {MAX_BLOCKS}")
        size_bytes = len(move.local) * self._local.bytes_per_block
        transfer = TwoSidedTransfer(size_bytes, self._clock, self._when_ended)
        if move.local:
            request = self._request(direction, len(move.remote))
            self._queue(Job(transfer, request, move.local, move.remote))
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

    def _queue(self, job: Job) -> None:
        with self._changed:
            closed_for = self._closed_for
            busy = len(self._moving) >= self._limit
            if closed_for is None and not busy:
                self._moving.add(job.transfer)
                self._waiting.append(job)
                self._changed.notify()
        if closed_for is not None:
            job.transfer.fail(Failure.CLOSED, closed_for)
        elif busy:
            job.transfer.fail(Failure.BUSY, f"{Failure.BUSY}: {self._limit} transfers are moving")

    def _take(self) -> Job | None:
        """Wait for a job; None when there will be no more."""
        with self._changed:
            while self._closed_for is None:
                if self._waiting:
                    return self._waiting.popleft()
                self._changed.wait()
            return None

    def _when_ended(self, transfer: TwoSidedTransfer) -> None:
        with self._changed:
            self._moving.discard(transfer)
            # A peer that stands still would else have the cancelled ones pile up behind it.
            self._waiting = deque(job for job in self._waiting if job.transfer is not transfer)
