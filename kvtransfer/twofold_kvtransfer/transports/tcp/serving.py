"""What is done for a peer on one connection of it."""

from dataclasses import dataclass

from twofold_kvtransfer.transports.sockets.acceptor import Acceptor
from twofold_kvtransfer.transports.sockets.cells import Regions
from twofold_kvtransfer.transports.sockets.connection import Connection
from twofold_kvtransfer.transports.sockets.conversation import (
    answer,
    let_in,
    take_request,
    why_not_written,
)
from twofold_kvtransfer.transports.sockets.wire import Direction, Request, Verdict
from twofold_kvtransfer.transports.tcp.moving import Mover
from twofold_kvtransfer.transports.tcp.payloads import CodedCells, PayloadMover
from twofold_kvtransfer.transports.tcp.settings import TcpSettings


@dataclass(frozen=True, slots=True)
class Service:
    """Serves the blocks of one transport: a peer names them by number and reaches no others."""

    key: bytes
    regions: Regions
    mover: Mover
    payloads: PayloadMover | None = None
    """None: nothing is coded."""
    serves_writes: bool = False

    def serve(self, connection: Connection) -> None:
        """Do what is asked on *connection*, until the peer ends it.

        Raises:
            TransferError: the connection failed, or what was asked makes no sense.
        """
        while connection.wait_until_readable():
            self._serve_one(connection)

    def _serve_one(self, connection: Connection) -> None:
        request, blocks, digest = take_request(
            connection,
            self.regions.map,
            why_not=lambda request: why_not_written(request, serves_writes=self.serves_writes),
            when_damaged=self.mover.counts.damaged,
        )
        if request.codec == "none" or self.payloads is None or not self.payloads.takes(request):
            self._move(connection, request, blocks, digest)
            return
        with self.payloads.place() as is_free:
            if not is_free:
                self._move(connection, request, blocks, digest)
                return
            answer(connection, Verdict.CODED, more=True)
            part = (request.part_offset, request.part_bytes)
            self.payloads.send(connection, CodedCells(request, blocks, part), digest)

    def _move(
        self, connection: Connection, request: Request, blocks: list[int], digest: int
    ) -> None:
        """Send or take the cells of *request* as they lie."""
        runs = self.regions.runs(
            blocks,
            (request.part_offset, request.part_bytes),
            request.cells,
            request.run_cells,
        )
        seed = digest if request.checksum else None
        reading = request.direction is Direction.READ
        answer(connection, Verdict.OK, more=reading)
        if reading:
            self.mover.send(connection, runs, seed)
        else:
            intact = self.mover.receive(connection, runs, seed)
            answer(connection, Verdict.OK if intact else Verdict.CHECKSUM)


def listen(service: Service, settings: TcpSettings) -> Acceptor[Connection]:
    """Serve whoever connects, from now on.

    Raises:
        OSError: the address of the settings cannot be listened on.
    """

    def serve(connection: Connection) -> None:
        let_in(connection, service.key, settings.connect_seconds)
        connection.limit_waits(settings.idle_seconds)
        service.serve(connection)

    return Acceptor(
        "tcp",
        settings.host,
        settings.port,
        settings.max_accepted_streams,
        lambda sock: Connection(sock, settings.idle_seconds),
        serve,
        error_text="a peer could not be served",
        when_refused=service.mover.counts.refused,
    )
