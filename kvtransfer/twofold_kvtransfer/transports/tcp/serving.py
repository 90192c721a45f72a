"""What is done for a peer on one connection of it."""

import hmac
from dataclasses import dataclass

from twofold_kvtransfer.transports.tcp.cells import Regions
from twofold_kvtransfer.transports.tcp.connection import Connection
from twofold_kvtransfer.transports.tcp.failing import Failure, TransferError
from twofold_kvtransfer.transports.tcp.moving import Mover
from twofold_kvtransfer.transports.tcp.payloads import CodedCells, PayloadMover
from twofold_kvtransfer.transports.tcp.wire import (
    HELLO_BYTES,
    REQUEST_BYTES,
    Answer,
    Direction,
    Request,
    Verdict,
    decode_blocks,
    decode_hello,
    decode_request,
)


@dataclass(frozen=True, slots=True)
class Service:
    """Serves the blocks of one transport: a peer names them by number and reaches no others."""

    key: bytes
    regions: Regions
    mover: Mover
    payloads: PayloadMover | None = None
    """None: nothing is coded."""

    def greet(self, connection: Connection) -> None:
        """Let in who knows the key.

        Raises:
            TransferError: a stranger, or no greeting in time.
        """
        hello = decode_hello(connection.receive_bytes(HELLO_BYTES))
        if not hmac.compare_digest(hello.key, self.key):
            connection.send_bytes(Answer(Verdict.REFUSED, "this is another incarnation").encode())
            raise TransferError(Failure.REFUSED, "a key of another incarnation")
        connection.send_bytes(Answer(Verdict.OK).encode())

    def serve(self, connection: Connection) -> None:
        """Do what is asked on *connection*, until the peer ends it.

        Raises:
            TransferError: the connection failed, or what was asked makes no sense.
        """
        while connection.wait_until_readable():
            self._serve_one(connection)

    def _serve_one(self, connection: Connection) -> None:
        try:
            head = connection.receive_bytes(REQUEST_BYTES)
            request, digest = decode_request(head)
            blocks = decode_blocks(head, connection.receive_bytes(4 * request.block_count))
        except TransferError as error:
            if error.failure is Failure.CHECKSUM:
                self.mover.counts.damaged()
                connection.send_bytes(Answer(Verdict.CHECKSUM).encode())
            raise
        reason = self._cannot(request, blocks)
        if reason is not None:
            connection.send_bytes(Answer(Verdict.REFUSED, reason).encode())
            raise TransferError(Failure.REFUSED, reason)
        if request.codec == "none" or self.payloads is None or not self.payloads.takes(request):
            self._move(connection, request, blocks, digest)
            return
        with self.payloads.place() as is_free:
            if not is_free:
                self._move(connection, request, blocks, digest)
                return
            connection.send_bytes(Answer(Verdict.CODED).encode(), more=True)
            part = (request.part_offset, request.part_bytes)
            self.payloads.send(connection, CodedCells(request, blocks, part), digest)

    def _move(
        self, connection: Connection, request: Request, blocks: list[int], digest: int
    ) -> None:
        """Send or take the cells of *request* as they lie."""
        runs = self.regions.runs(
            blocks,
            (request.part_offset, request.part_bytes),
            range(request.first, request.first + request.count),
            request.run_cells,
        )
        seed = digest if request.checksum else None
        reading = request.direction is Direction.READ
        connection.send_bytes(Answer(Verdict.OK).encode(), more=reading)
        if reading:
            self.mover.send(connection, runs, seed)
        else:
            intact = self.mover.receive(connection, runs, seed)
            verdict = Verdict.OK if intact else Verdict.CHECKSUM
            connection.send_bytes(Answer(verdict).encode())

    def _cannot(self, request: Request, blocks: list[int]) -> str | None:
        """Return why *request* cannot be served, None if it can."""
        here = self.regions.map
        if max(blocks) >= here.block_count:
            return f"block {max(blocks)} of {here.block_count}"
        if request.part_bytes < 1 or request.part_offset + request.part_bytes > here.block_bytes:
            return (
                f"bytes {request.part_offset} and {request.part_bytes} on"
                f" of blocks of {here.block_bytes}"
            )
        cell_count = len(blocks) * here.region_count
        if request.count < 1 or request.first + request.count > cell_count:
            return f"cells {request.first} and {request.count} on of {cell_count}"
        return None
