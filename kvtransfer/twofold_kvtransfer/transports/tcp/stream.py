"""One connection to a peer, with the thread that moves shares of transfers over it."""

import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from twofold_kvtransfer.transports.tcp.cells import Regions
from twofold_kvtransfer.transports.tcp.connection import Address, Connection
from twofold_kvtransfer.transports.tcp.failing import Failure, TransferError
from twofold_kvtransfer.transports.tcp.moving import Mover
from twofold_kvtransfer.transports.tcp.payloads import CodedCells, PayloadMover
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
        _expect(connection, Verdict.OK)
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
        if share.request.codec == "none" or self._ends.payloads is None:
            return self._ask(connection, share, None)
        with self._ends.payloads.place() as is_free:
            if is_free:
                return self._ask(connection, share, self._ends.payloads)
            share.transfer.account.mix()
            return self._ask(connection, _as_it_lies(share), None)

    def _ask(self, connection: Connection, share: Share, payloads: PayloadMover | None) -> bool:
        request, account = share.request, share.transfer.account
        head, ids, digest = encode_request(request, share.remote)
        connection.send_bytes(head, ids)
        whole = (0, self._ends.regions.map.block_bytes)
        if payloads is None:
            _expect(connection, Verdict.OK)
        elif _expect(connection, Verdict.OK, Verdict.CODED) is Verdict.CODED:
            return payloads.receive(
                connection, CodedCells(request, share.local, whole), digest, account
            )
        else:
            account.mix()
        cells = range(request.first, request.first + request.count)
        runs = self._ends.regions.runs(share.local, whole, cells, request.run_cells)
        seed = digest if request.checksum else None
        account.moved(request.count * whole[1])
        with account.moving:
            if request.direction is Direction.READ:
                return self._ends.mover.receive(connection, runs, seed)
            self._ends.mover.send(connection, runs, seed)
        _expect(connection, Verdict.OK)
        return True


def _as_it_lies(share: Share) -> Share:
    return replace(share, request=replace(share.request, codec="none"))


def _expect(connection: Connection, *verdicts: Verdict) -> Verdict:
    """Return the answer, which is one of *verdicts*."""
    answer = decode_answer(connection.receive_bytes(ANSWER_BYTES))
    if answer.verdict is Verdict.REFUSED:
        raise TransferError(Failure.REFUSED, answer.text)
    if answer.verdict is Verdict.CHECKSUM:
        raise TransferError(Failure.CHECKSUM, "what the peer received is not what was sent")
    if answer.verdict not in verdicts:
        raise TransferError(Failure.PROTOCOL, f"{answer.verdict.name}, which answers nothing here")
    return answer.verdict
