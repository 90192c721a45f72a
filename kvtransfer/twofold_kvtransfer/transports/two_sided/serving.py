"""What is done for a peer on a line that it has opened."""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from twofold_kvtransfer.transports.sockets.acceptor import Acceptor
from twofold_kvtransfer.transports.sockets.conversation import (
    answer,
    let_in,
    take_request,
    why_not_written,
)
from twofold_kvtransfer.transports.sockets.wire import Direction, Request, Verdict
from twofold_kvtransfer.transports.two_sided.line import ACCEPTER_RANK, Line
from twofold_kvtransfer.transports.two_sided.moving import course, serve_read, serve_write
from twofold_kvtransfer.transports.two_sided.settings import TwoSidedSettings


@dataclass(frozen=True, slots=True)
class Service:
    """Serves the blocks of one transport: a peer names them by number and reaches no others."""

    key: bytes
    serves_writes: bool = False

    def greet(self, line: Line, seconds: float) -> None:
        """Let in who knows the key, and make the communicator with it.

        Raises:
            TransferError: a stranger, or no greeting in time.
        """
        let_in(line.control.connection, self.key, seconds)
        line.join(ACCEPTER_RANK)

    def serve(self, line: Line) -> None:
        """Do what is asked on *line*, until the peer ends it.

        Raises:
            TransferError: the line has failed, or what was asked makes no sense.
        """
        while line.control.connection.wait_until_readable():
            self._serve_one(line)

    def _why_not(self, line: Line, request: Request) -> str | None:
        unwritten = why_not_written(request, serves_writes=self.serves_writes)
        return unwritten or _why_not_over(line, request)

    def _serve_one(self, line: Line) -> None:
        connection = line.control.connection
        request, blocks, digest = take_request(
            connection, line.blocks, why_not=partial(self._why_not, line)
        )
        wanted = course(line, request, digest, blocks, (request.part_offset, request.part_bytes))
        answer(connection, Verdict.OK)
        if request.direction is Direction.READ:
            serve_read(wanted)
        else:
            serve_write(wanted)


def listen(
    service: Service, make_line: Callable[[socket.socket], Line], settings: TwoSidedSettings
) -> Acceptor[Line]:
    """Serve whoever connects, from now on.

    Raises:
        OSError: the address of the settings cannot be listened on.
    """

    def serve(line: Line) -> None:
        service.greet(line, settings.connect_seconds)
        service.serve(line)

    return Acceptor(
        "two-sided",
        settings.host,
        settings.port,
        settings.max_accepted_lines,
        make_line,
        serve,
        error_text="a peer's line failed",
    )


def _why_not_over(line: Line, request: Request) -> str | None:
    """Return what *request* wants that cannot be done over *line*, None if all can."""
    if request.run_cells * request.part_bytes > line.buffer_bytes:
        return f"{request.run_cells} cells at once in a buffer of {line.buffer_bytes} bytes"
    if request.codec != "none":
        return f"the codec {request.codec}, of which there is none over {line.library.name}"
    if request.checksum and not line.library.checks_integrity:
        return f"checksums, which there are none of over {line.library.name}"
    return None
