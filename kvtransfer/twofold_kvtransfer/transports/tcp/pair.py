"""A peer, and the streams to it."""

from collections.abc import Callable
from functools import partial

from twofold_kvtransfer.blocks import BlockMap, Move
from twofold_kvtransfer.codecs import Choice, CodecName
from twofold_kvtransfer.transports.port import PeerError
from twofold_kvtransfer.transports.sockets.cells import RUN_BYTES, run_cells_for
from twofold_kvtransfer.transports.sockets.conversation import check_move
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.transports.sockets.joining import join_all
from twofold_kvtransfer.transports.sockets.waiting import Queue, Share
from twofold_kvtransfer.transports.sockets.wire import Direction, Request
from twofold_kvtransfer.transports.tcp.choosing import Chooser
from twofold_kvtransfer.transports.tcp.chunks import chunk_cells_for
from twofold_kvtransfer.transports.tcp.stream import Ends, Stream
from twofold_kvtransfer.transports.tcp.transfer import TcpTransfer

MIN_SHARE_BYTES = RUN_BYTES
"""Of what a stream is woken for; a smaller transfer goes over one."""


class TcpPair:
    """Owns the streams to one peer, and the shares that wait for one."""

    def __init__(
        self,
        ends: Ends,
        remote: BlockMap,
        part: tuple[int, int],
        clock: Callable[[], float],
        when_closed: Callable[["TcpPair"], None],
        chooser: Chooser | None = None,
    ) -> None:
        """*part* is where *remote* lies within the peer's blocks: offset and length in bytes.
        Without a *chooser* nothing is coded.

        Raises:
            PeerError: the peer is not there, or refuses.
        """
        self._ends = ends
        self._remote = remote
        self._part = part
        self._clock = clock
        self._when_closed = when_closed
        self._chooser = chooser
        settings = ends.settings
        self._queue = Queue[TcpTransfer](settings.max_transfers_per_pair)
        self._streams = [Stream(ends, self._queue.take) for _ in range(settings.streams_per_pair)]
        try:
            for stream in self._streams:
                stream.connect()
        except TransferError as error:
            for stream in self._streams:
                stream.disconnect()
            raise PeerError(str(error)) from error
        for stream in self._streams:
            stream.thread.start()

    def read(self, move: Move) -> TcpTransfer:
        return self._start(Direction.READ, move)

    def write(self, move: Move) -> TcpTransfer:
        return self._start(Direction.WRITE, move)

    def close(self, reason: str) -> None:
        if not self._queue.close(reason):
            return
        join_all(stream.thread for stream in self._streams)
        self._when_closed(self)

    def _start(self, direction: Direction, move: Move) -> TcpTransfer:
        local = self._ends.regions.map
        check_move(move, local, self._remote)
        size_bytes = len(move.local) * local.bytes_per_block
        choice = self._choose(direction, size_bytes)
        codec: CodecName = "none" if choice is None else choice.codec
        requests = self._requests(direction, len(move.remote), codec) if move.remote else []
        ended = partial(self._when_ended, choice)
        transfer = TcpTransfer(size_bytes, len(requests), self._clock, ended, codec)
        if requests:
            shares = [Share(transfer, request, move.local, move.remote) for request in requests]
            self._queue.put(transfer, shares)
        return transfer

    def _choose(self, direction: Direction, size_bytes: int) -> Choice | None:
        if self._chooser is None or direction is Direction.WRITE:
            return None
        return self._chooser.choose(size_bytes, self._ends.host)

    def _requests(self, direction: Direction, block_count: int, codec: CodecName) -> list[Request]:
        """Split all cells of *block_count* blocks evenly, at the bounds of runs or about at those
        of chunks."""
        settings = self._ends.settings
        offset, length = self._part
        cell_count = block_count * self._remote.region_count
        run_cells = run_cells_for(length) if codec == "none" else chunk_cells_for(length)
        most = max(1, cell_count * length // MIN_SHARE_BYTES)
        run_count = -(-cell_count // run_cells)
        runs_each = -(-run_count // min(settings.streams_per_pair, most))
        step = runs_each * run_cells
        return [
            Request(
                direction=direction,
                checksum=settings.checksum,
                run_cells=run_cells,
                block_count=block_count,
                part_offset=offset,
                part_bytes=length,
                first=first,
                count=min(step, cell_count - first),
                codec=codec,
            )
            for first in range(0, cell_count, step)
        ]

    def _when_ended(
        self,
        choice: Choice | None,
        transfer: TcpTransfer,
        failure: Failure | None,
        seconds: float,
    ) -> None:
        self._queue.drop(transfer)
        self._ends.mover.counts.ended(failure)
        if failure is not None or not transfer.size_bytes:
            return
        stages = transfer.account.stages()
        if not stages.is_coded:
            transfer.codec = "none"
        self._ends.mover.counts.coded(transfer.codec, transfer.size_bytes, stages)
        if choice is not None and self._chooser is not None:
            self._chooser.learn(choice, stages, seconds)
