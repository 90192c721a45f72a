"""What is done for a peer on a line that it has opened."""

import hmac
from dataclasses import dataclass

from twofold_kvtransfer.transports.tcp.failing import Failure, TransferError
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
from twofold_kvtransfer.transports.two_sided.line import ACCEPTER_RANK, Line
from twofold_kvtransfer.transports.two_sided.moving import course, serve_read, serve_write


@dataclass(frozen=True, slots=True)
class Service:
    """Serves the blocks of one transport: a peer names them by number and reaches no others."""

    key: bytes

    def greet(self, line: Line) -> None:
        """Let in who knows the key, and make the communicator with it.

        Raises:
            TransferError: a stranger, or no greeting in time.
        """
        connection = line.control.connection
        hello = decode_hello(connection.receive_bytes(HELLO_BYTES))
        if not hmac.compare_digest(hello.key, self.key):
            connection.send_bytes(Answer(Verdict.REFUSED, "this is another incarnation").encode())
            raise TransferError(Failure.REFUSED, "a key of another incarnation")
        connection.send_bytes(Answer(Verdict.OK).encode())
        line.join(ACCEPTER_RANK)

    def serve(self, line: Line) -> None:
        """Do what is asked on *line*, until the peer ends it.

        Raises:
            TransferError: the line has failed, or what was asked makes no sense.
        """
        while line.control.connection.wait_until_readable():
            self._serve_one(line)

    def _serve_one(self, line: Line) -> None:
        connection = line.control.connection
        try:
            head = connection.receive_bytes(REQUEST_BYTES)
            request, digest = decode_request(head)
            blocks = decode_blocks(head, connection.receive_bytes(4 * request.block_count))
        except TransferError as error:
            if error.failure is Failure.CHECKSUM:
                connection.send_bytes(Answer(Verdict.CHECKSUM).encode())
            raise
        reason = _cannot(line, request, blocks)
        if reason is not None:
            connection.send_bytes(Answer(Verdict.REFUSED, reason).encode())
            raise TransferError(Failure.REFUSED, reason)
        wanted = course(line, request, digest, blocks, (request.part_offset, request.part_bytes))
        connection.send_bytes(Answer(Verdict.OK).encode())
        if request.direction is Direction.READ:
            serve_read(wanted)
        else:
            serve_write(wanted)


def _cannot(line: Line, request: Request, blocks: list[int]) -> str | None:
    """Return why *request* cannot be served, None if it can."""
    here = line.blocks
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
    if request.run_cells * request.part_bytes > line.buffer_bytes:
        return f"{request.run_cells} cells at once in a buffer of {line.buffer_bytes} bytes"
    if request.codec != "none":
        return f"the codec {request.codec}, of which there is none over {line.library.name}"
    if request.checksum and not line.library.checks_integrity:
        return f"checksums, which there are none of over {line.library.name}"
    return None
