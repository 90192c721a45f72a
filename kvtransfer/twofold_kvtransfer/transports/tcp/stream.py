"""One connection to a peer, with the thread that moves shares of transfers over it."""

import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from twofold_kvtransfer.transports.tcp.cells import Regions
from twofold_kvtransfer.transports.tcp.connection import Address, Connection
from twofold_kvtransfer.transports.tcp.failing import Failure, TransferError
from twofold_kvtransfer.transports.tcp.moving import Mover
from twofold_kvtransfer.transports.tcp.settings import TcpSettings
from twofold_kvtransfer.transports.tcp.transfer import TcpTransfer
from twofold_kvtransfer.transports.tcp.wire import (
    ANSWER_BYTES,
    Direction,
    Hello,
    Request,
    Verdict,
    decode_answer,
    encode_request,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Share:
    """What one stream moves of a transfer."""

    transfer: TcpTransfer
    request: Request
    local: tuple[int, ...]
    remote: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ends:
    """The two ends of a pair's streams."""

    address: Address
    key: bytes
    """The peer's."""
    regions: Regions
    mover: Mover
    settings: TcpSettings


class Stream:
    """Connects again when its connection was cut or has failed."""

    def __init__(self, ends: Ends, take: Callable[[], Share | None]) -> None:
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
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            raise TransferError(Failure.PEER_LOST, f"no socket: {error}") from error
        connection = Connection(sock, settings.idle_seconds)
        with self._lock:
            self._connection = connection
            if self._cut:
                raise TransferError(Failure.CANCELLED, "the stream was cut")
        connection.connect(address, settings.connect_seconds)
        connection.limit_waits(settings.connect_seconds)
        connection.send_bytes(Hello(self._ends.key).encode())
        _expect_ok(connection)
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

    def _move(self, share: Share) -> TransferError | None:
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

    def _exchange(self, connection: Connection, share: Share) -> bool:
        """Return whether the bytes arrived as they were sent."""
        request = share.request
        head, ids, digest = encode_request(request, share.remote)
        connection.send_bytes(head, ids)
        _expect_ok(connection)
        here = self._ends.regions
        cells = range(request.first, request.first + request.count)
        runs = here.runs(share.local, (0, here.map.block_bytes), cells, request.run_cells)
        seed = digest if request.checksum else None
        if request.direction is Direction.READ:
            return self._ends.mover.receive(connection, runs, seed)
        self._ends.mover.send(connection, runs, seed)
        _expect_ok(connection)
        return True


def _expect_ok(connection: Connection) -> None:
    answer = decode_answer(connection.receive_bytes(ANSWER_BYTES))
    if answer.verdict is Verdict.REFUSED:
        raise TransferError(Failure.REFUSED, answer.text)
    if answer.verdict is Verdict.CHECKSUM:
        raise TransferError(Failure.CHECKSUM, "what the peer received is not what was sent")
