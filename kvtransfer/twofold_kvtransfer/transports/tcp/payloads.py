"""Cells from memory to a stream and back as payloads of a codec.

Encoding the next chunks, sending one and, at the other end, decoding those before go on side by
side. ROOMS payloads of a stream are in memory at most, each of about CHUNK_BYTES (or one cell, if
that has more), and only PLACES streams of a transport, of both sides' transfers together, code at
once: about 100 MiB with small cells, twice as much if all are of peers that ask for chunks of
MAX_CHUNK_BYTES. The next one sends its cells as they lie.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from twofold_kvtransfer.blocks import BlockIds
from twofold_kvtransfer.codecs import PayloadError
from twofold_kvtransfer.transports.sockets.connection import Connection
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.transports.sockets.wire import Request
from twofold_kvtransfer.transports.tcp.accounts import Account, BusyTime
from twofold_kvtransfer.transports.tcp.chunks import MAX_CHUNK_BYTES, chunks
from twofold_kvtransfer.transports.tcp.compressing import CellCoder, is_whole_heads
from twofold_kvtransfer.transports.tcp.counting import Counts
from twofold_kvtransfer.transports.tcp.limiting import RateLimit
from twofold_kvtransfer.transports.tcp.moving import checksum_of
from twofold_kvtransfer.transports.tcp.pipelining import Pipeline
from twofold_kvtransfer.transports.tcp.wire import (
    CHUNK_HEAD_BYTES,
    ChunkHead,
    decode_chunk_head,
)

ROOMS = 3
"""Of each stream: one is sent or received while two are coded."""
PLACES = 32
NANO = 1e-9


@dataclass(frozen=True, slots=True)
class CodedCells:
    """What of which blocks of this side a request is about."""

    request: Request
    ids: BlockIds
    part: tuple[int, int]
    """Offset and length within a block here, in bytes."""

    def chunks(self) -> Iterator[range]:
        asked = self.request
        return chunks(asked.cells, len(self.ids), asked.run_cells)


class PayloadMover:
    """Sends and receives coded cells for all streams of a transport."""

    def __init__(
        self,
        coder: CellCoder,
        counts: Counts,
        limit: RateLimit | None,
        clock: Callable[[], float],
        place_count: int = PLACES,
    ) -> None:
        self._coder = coder
        self._counts = counts
        self._limit = limit
        self._clock = clock
        self._places = threading.BoundedSemaphore(place_count)

    @contextlib.contextmanager
    def place(self) -> Iterator[bool]:
        """Yield whether the caller may code: not too many do already."""
        is_free = self._places.acquire(blocking=False)
        try:
            yield is_free
        finally:
            if is_free:
                self._places.release()

    def takes(self, request: Request) -> bool:
        """Whether *request* names whole heads, and chunks that there is room for."""
        whole = is_whole_heads(self._coder.shape, (request.part_offset, request.part_bytes))
        chunk_bytes = request.run_cells * request.part_bytes
        return whole and (request.run_cells == 1 or chunk_bytes <= MAX_CHUNK_BYTES)

    def send(self, connection: Connection, cells: CodedCells, seed: int) -> None:
        """Raises:
        TransferError: the connection failed.
        """
        busy = BusyTime(self._clock)
        checked = cells.request.checksum
        rooms = self._rooms(cells)
        with Pipeline[memoryview](self._coder.threads, ROOMS) as encoding:
            sent = 0
            for number, chunk in enumerate(cells.chunks()):
                room = rooms[number % ROOMS]
                busy.begin()
                encoding.start(partial(self._encode, cells, chunk, room, busy))
                if encoding.is_full:
                    self._send(connection, encoding.take(), busy, checked, seed + sent)
                    sent += 1
            while encoding:
                self._send(connection, encoding.take(), busy, checked, seed + sent)
                sent += 1

    def receive(
        self, connection: Connection, cells: CodedCells, seed: int, account: Account
    ) -> bool:
        """Decode what comes; return whether all checksums were right. Damage is not decoded.

        Raises:
            TransferError: the connection failed, or what came is no such payload.
        """
        intact = True
        checked = cells.request.checksum
        rooms = self._rooms(cells)
        with Pipeline[None](self._coder.threads, ROOMS) as decoding:
            started = 0
            for number, chunk in enumerate(cells.chunks()):
                if decoding.is_full:
                    with contextlib.nullcontext() if decoding.is_ready else account.held_up:
                        decoding.take()
                head = self._head(connection, seed + number)
                room = rooms[started % ROOMS]
                if not 0 < head.size_bytes <= len(room):
                    raise TransferError(Failure.PROTOCOL, f"a payload of {head.size_bytes} bytes")
                payload = room[: head.size_bytes]
                with account.moving:
                    connection.receive([payload])
                self._counts.received(len(payload))
                account.moved(len(payload))
                account.encoded(head.encode_nanoseconds * NANO)
                if checked and checksum_of([payload], seed + number) != head.checksum:
                    intact = False
                    self._counts.damaged()
                    continue
                account.decoding.begin()
                decoding.start(partial(self._decode, cells, chunk, payload, account.decoding))
                started += 1
            while decoding:
                decoding.take()
        return intact

    def close(self) -> None:
        """End the coder's threads; nothing must be sent or received any more."""
        self._coder.close()

    def _rooms(self, cells: CodedCells) -> list[memoryview]:
        asked = cells.request
        most = min(asked.run_cells, asked.count)
        size = self._coder.bound(asked.codec, cells.part, most)
        return [np.empty(size, np.uint8).data for _ in range(ROOMS)]

    def _encode(
        self, cells: CodedCells, chunk: range, room: memoryview, busy: BusyTime
    ) -> memoryview:
        try:
            size = self._coder.encode(cells.request.codec, cells.ids, cells.part, chunk, room)
        finally:
            busy.end()
        return room[:size]

    def _decode(self, cells: CodedCells, chunk: range, payload: memoryview, busy: BusyTime) -> None:
        try:
            self._coder.decode(cells.request.codec, cells.ids, cells.part, chunk, payload)
        except PayloadError as error:
            raise TransferError(Failure.PROTOCOL, str(error)) from error
        finally:
            busy.end()

    def _send(
        self,
        connection: Connection,
        payload: memoryview,
        busy: BusyTime,
        checked: bool,
        seed: int,
    ) -> None:
        checksum = checksum_of([payload], seed) if checked else 0
        head = ChunkHead(checksum, len(payload), int(busy.seconds / NANO)).encode(seed)
        if self._limit is None:
            connection.send([memoryview(head), payload])
        else:
            # The head first: how long the payload is on its way is measured from it.
            connection.send_bytes(head)
            connection.pause(self._limit.book(len(payload)))
            connection.send([payload])
        self._counts.sent(len(payload))

    def _head(self, connection: Connection, seed: int) -> ChunkHead:
        try:
            return decode_chunk_head(connection.receive_bytes(CHUNK_HEAD_BYTES), seed)
        except TransferError as error:
            if error.failure is Failure.CHECKSUM:
                self._counts.damaged()
            raise
