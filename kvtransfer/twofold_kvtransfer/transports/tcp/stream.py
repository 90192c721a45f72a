"""One connection to a peer, with the thread that moves shares of transfers over it."""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from twofold_kvtransfer.transports.sockets.cells import Regions
from twofold_kvtransfer.transports.sockets.connection import Address, Connection, open_socket
from twofold_kvtransfer.transports.sockets.conversation import expect, introduce
from twofold_kvtransfer.transports.sockets.failing import Failure, TransferError
from twofold_kvtransfer.transports.sockets.waiting import Share
from twofold_kvtransfer.transports.sockets.wire import Direction, Verdict, encode_request
from twofold_kvtransfer.transports.tcp.moving import Mover
from twofold_kvtransfer.transports.tcp.payloads import CodedCells, PayloadMover
from twofold_kvtransfer.transports.tcp.settings import TcpSettings
from twofold_kvtransfer.transports.tcp.transfer import TcpTransfer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ends:
    """The two ends of a pair's streams."""

    host: str
    """The peer's, by which its link is known."""
    address: Address
    key: bytes
    """The peer's."""
    regions: Regions
    mover: Mover
    settings: TcpSettings
    payloads: PayloadMover | None = None
    """None: nothing is coded."""


class Stream:
    """Connects again when its connection was cut or has failed."""

    def __init__(self, ends: Ends, take: Callable[[], Share[TcpTransfer] | None]) -> None:
        """*take* waits for the next share; None ends the thread."""
        self._ends = ends
        self._take = take
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._cut = False
        self.thread = threading.Thread(target=self._work, name="kv-tcp-stream", daemon=True)

    def connect(self) -> Connection:
        """Return a connection that the peer has let in.

        Raises:
            TransferError: nobody is there, it refuses, or the stream was cut meanwhile.
        """
        if self._connection is not None and self._connection.is_usable():
            return self._connection
        self.disconnect()
        family, address = self._ends.address
        settings = self._ends.settings
        connection = Connection(open_socket(family), settings.idle_seconds)
        with self._lock:
            self._connection = connection
            if self._cut:
                raise TransferError(Failure.CANCELLED, "the stream was cut")
        introduce(connection, address, self._ends.key, settings.connect_seconds)
        connection.limit_waits(settings.idle_seconds)
        return connection

    def disconnect(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _work(self) -> None:
        while (share := self._take()) is not None:
            self._cut = False
            if share.transfer.begin(self._cut_off):
                share.transfer.end(self._cut_off, self._move(share))
        self.disconnect()

    def _cut_off(self) -> None:
        with self._lock:
            self._cut = True
            if self._connection is not None:
                self._connection.cut()

    def _move(self, share: Share[TcpTransfer]) -> TransferError | None:
        """Move *share*; return why it failed, if it did."""
        try:
            if not self._exchange(self.connect(), share):
                return TransferError(Failure.CHECKSUM, "what arrived is not what was sent")
        except TransferError as error:
            self.disconnect()
            return error
        except Exception:  # noqa: BLE001 - an edge: who polls has to hear of it
            _log.exception("a stream failed")
            self.disconnect()
            return TransferError(Failure.PROTOCOL, "an error on this side, see its log")
        return None

    def _exchange(self, connection: Connection, share: Share[TcpTransfer]) -> bool:
        """Return whether the bytes arrived as they were sent."""
        if share.request.codec == "none" or self._ends.payloads is None:
            return self._ask(connection, share, None)
        with self._ends.payloads.place() as is_free:
            if is_free:
                return self._ask(connection, share, self._ends.payloads)
            share.transfer.account.mix()
            return self._ask(connection, _as_it_lies(share), None)

    def _ask(
        self, connection: Connection, share: Share[TcpTransfer], payloads: PayloadMover | None
    ) -> bool:
        request, account = share.request, share.transfer.account
        head, ids, digest = encode_request(request, share.remote)
        connection.send_bytes(head, ids)
        whole = (0, self._ends.regions.map.block_bytes)
        if payloads is None:
            expect(connection, Verdict.OK)
        elif expect(connection, Verdict.OK, Verdict.CODED) is Verdict.CODED:
            return payloads.receive(
                connection, CodedCells(request, share.local, whole), digest, account
            )
        else:
            account.mix()
        runs = self._ends.regions.runs(share.local, whole, request.cells, request.run_cells)
        seed = digest if request.checksum else None
        account.moved(request.count * whole[1])
        with account.moving:
            if request.direction is Direction.READ:
                return self._ends.mover.receive(connection, runs, seed)
            self._ends.mover.send(connection, runs, seed)
        expect(connection, Verdict.OK)
        return True


def _as_it_lies(share: Share[TcpTransfer]) -> Share[TcpTransfer]:
    return replace(share, request=replace(share.request, codec="none"))
